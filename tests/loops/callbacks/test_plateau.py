"""Plateau: when a value stops getting better."""

import keras
import numpy as np
import pytest

from gradloop.loops.callbacks.plateau import Plateau


def _counts(values, monitor="val_loss", mode=None, patience=1, min_delta=0.0):
    plateau, counts = Plateau(monitor, mode, patience, min_delta), []
    for value in values:
        plateau.add({monitor: value})
        counts.append(plateau.count)
    return counts


@pytest.mark.parametrize("mode, monitor", [("min", "val_loss"), ("max", "val_accuracy")])
def test_counts_when_keras_would_lower_the_rate(mode, monitor):
    values = np.random.RandomState(0).rand(40)
    for patience in (1, 2, 3):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(1.0), "mse")
        reduce = keras.callbacks.ReduceLROnPlateau(
            monitor, 0.5, patience, mode=mode, min_delta=0.01, min_lr=0, cooldown=0
        )
        reduce.set_model(model)
        reduce.on_train_begin()
        expected = []
        for epoch, value in enumerate(values):
            reduce.on_epoch_end(epoch, {monitor: value})
            expected.append(round(-np.log2(float(model.optimizer.learning_rate.numpy()))))
        assert _counts(values, monitor, None, patience, 0.01) == expected


def test_tells_the_way_by_the_name():
    assert _counts([0.1, 0.2, 0.3], "val_accuracy") == [0, 0, 0]
    assert _counts([0.1, 0.2, 0.3], "mean_absolute_error") == [0, 1, 2]
    assert _counts([0.1, 0.2, 0.3], "whatever", mode="max") == [0, 0, 0]


def test_goes_on_from_its_state():
    one, other = Plateau("loss", None, 3, 0.0), Plateau("loss", None, 3, 0.0)
    for value in (1.0, 1.0, 1.0):
        one.add({"loss": value})
    other.set_state(one.state())
    for plateau in (one, other):
        plateau.add({"loss": 1.0})
        assert plateau.count == 1
    other.set_state(None)
    assert other.state() == {"count": 0, "best": None, "waited": 0}


@pytest.mark.parametrize("min_delta", [-1, float("nan"), "small", True])
def test_min_delta_that_is_none(min_delta):
    error = TypeError if min_delta in ("small", True) else ValueError
    with pytest.raises(error, match="`min_delta` must be a .*number at least 0, got"):
        Plateau("loss", None, 1, min_delta)


def test_a_nan_is_never_the_best():
    plateau = Plateau("val_loss", None, 2, 0.0)
    for value in (float("nan"), 1.0, 0.9, float("nan"), 0.8, 0.7):
        plateau.add({"val_loss": value})
    assert plateau.state() == {"count": 0, "best": 0.7, "waited": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"count": -1},
        {"count": 1.0},
        {"count": True},
        {"waited": "0"},
        {"best": "low"},
        {"best": float("nan")},
        {"best": True},
        {"more": 1},
    ],
)
def test_the_state_of_something_else(change):
    plateau = Plateau("loss", None, 3, 0.0)
    plateau.add({"loss": 1.0})
    state = plateau.state()
    for wrong in ({**state, **change}, {"count": 1}, {}, [1, 2, 3]):
        with pytest.raises(ValueError, match="`state` of a plateau must be what `state\\(\\)` returned"):
            plateau.set_state(wrong)
    assert plateau.state() == state
