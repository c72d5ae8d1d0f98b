"""Rates that change: the base, a group's scale, a group's own; at once, and without a new trace."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import Group, GroupedOptimizer, OneCycle, partition

K = keras.optimizers
GROUPS = {"scaled": Group("scaled", lr_scale=0.1), "base": "base", "own": Group("own", learning_rate=0.25)}


class Weights(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        for name in ("scaled", "base", "own"):
            setattr(self, name, keras.Variable([0.0], name=name))
        self.built = True


def made(rate=1.0, groups=None, optimizer=None):
    weights = Weights()
    return weights, GroupedOptimizer(optimizer or K.SGD(rate), partition(weights, groups or GROUPS))


def updated(weights, apply):
    """How far each variable moves by a gradient of 1."""
    before = [v.numpy()[0] for v in weights.trainable_variables]
    apply([tf.ones([1])] * 3)
    return [old - v.numpy()[0] for old, v in zip(before, weights.trainable_variables)]


@pytest.fixture(params=["eager", "traced"])
def counted(request):
    """Makes a function that a user traces once, and counts its traces."""

    def wrap(optimizer):
        traces = []
        if request.param == "eager":
            return optimizer.apply, [1]

        @tf.function
        def apply(gradients):
            traces.append(1)
            optimizer.apply(gradients)

        return apply, traces

    return wrap


@pytest.mark.parametrize("make", [K.SGD, lambda rate: K.Lion(rate)])
def test_rates_change_at_once(make, counted):
    weights, optimizer = made(optimizer=make(1.0))
    apply, traces = counted(optimizer)
    assert updated(weights, apply) == pytest.approx([0.1, 1.0, 0.25])
    optimizer.learning_rate = 0.5
    assert updated(weights, apply) == pytest.approx([0.05, 0.5, 0.25])
    optimizer.rescale("scaled", 2.0)
    optimizer.set_learning_rate("own", 4.0)
    assert updated(weights, apply) == pytest.approx([1.0, 0.5, 4.0], rel=1e-5)
    assert optimizer.learning_rates == {"scaled": 1.0, "base": 0.5, "own": 4.0}
    optimizer.rescale("base", 0)
    assert updated(weights, apply) == pytest.approx([1.0, 0.0, 4.0], rel=1e-5)
    assert len(traces) == 1
    assert optimizer.plan.groups["scaled"].lr_scale == 2.0


def test_groups_keep_their_proportions():
    _, optimizer = made()
    for rate in (1.0, 0.3, 0.0, 7.0):
        optimizer.learning_rate = rate
        assert optimizer.learning_rates == pytest.approx({"scaled": 0.1 * rate, "base": rate, "own": 0.25})
        assert float(optimizer.learning_rate) == pytest.approx(rate)


def test_learning_rates_are_those_of_the_next_update(counted):
    schedule = K.schedules.PiecewiseConstantDecay([0, 1], [1.0, 0.5, 0.25])
    groups = {**GROUPS, "own": Group("own", learning_rate=OneCycle(1.0, total_steps=10, anneal="linear"))}
    weights, optimizer = made(schedule, groups)
    apply, traces = counted(optimizer)
    for _ in range(4):
        told = list(optimizer.learning_rates.values())
        assert updated(weights, apply) == pytest.approx(told, rel=1e-5)
    assert told[:2] == pytest.approx([0.025, 0.25])
    assert len(traces) == 1


def test_a_frozen_group_has_its_rate_told_too():
    _, optimizer = made(groups={**GROUPS, "base": Group("base", frozen=True)})
    assert optimizer.learning_rates["base"] == 1.0


def test_rates_can_be_read_while_a_function_is_traced():
    _, optimizer = made()
    seen = []
    tf.function(lambda: seen.append(optimizer.learning_rates))()
    assert seen == [pytest.approx({"scaled": 0.1, "base": 1.0, "own": 0.25})]


def test_a_scale_on_the_rate_of_a_groups_optimizer():
    groups = {**GROUPS, "own": Group("own", optimizer=K.SGD(0.5), lr_scale=0.5)}
    weights, optimizer = made(groups=groups)
    optimizer.learning_rate = 3.0
    assert updated(weights, optimizer.apply) == pytest.approx([0.3, 3.0, 0.25])
    optimizer.rescale("own", 1.0)
    assert updated(weights, optimizer.apply) == pytest.approx([0.3, 3.0, 0.5], rel=1e-5)


def test_a_schedule_instead_of_a_number():
    weights, optimizer = made()
    optimizer.learning_rate = K.schedules.PiecewiseConstantDecay([0], [2.0, 1.0])
    assert updated(weights, optimizer.apply) == pytest.approx([0.2, 2.0, 0.25])
    assert updated(weights, optimizer.apply) == pytest.approx([0.1, 1.0, 0.25], rel=1e-5)
    with pytest.raises(TypeError, match="its learning rate is not settable"):
        optimizer.learning_rate = 0.1


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda o: o.rescale("own", 2.0), "group 'own' has a learning rate of its own"),
        (lambda o: o.set_learning_rate("base", 2.0), "group 'base' follows the optimizer's learning rate"),
        (
            lambda o: o.set_learning_rate("cycle", 2.0),
            "schedule, which allows at most 0.5; it cannot be set to 2",
        ),
        (lambda o: o.rescale("bse", 2.0), "`names` holds 'bse', which is no group"),
    ],
)
def test_bad_changes_change_nothing(change, match):
    groups = {"cycle": Group("scaled", learning_rate=OneCycle(0.5, total_steps=10)), "base": "base"}
    _, optimizer = made(groups={**groups, "own": GROUPS["own"]})
    before = optimizer.plan, optimizer.learning_rates
    with pytest.raises(ValueError, match=match):
        change(optimizer)
    assert (optimizer.plan, optimizer.learning_rates) == before


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_rates_for_variables_of_any_dtype(dtype):
    layer = keras.layers.Dense(1, dtype=dtype)
    layer.build((None, 2))
    optimizer = GroupedOptimizer(K.SGD(0.5), partition(layer, {"all": Group("*", lr_scale=0.5)}))
    before = [v.numpy().astype("float64") for v in layer.trainable_variables]
    optimizer.apply([tf.ones(v.shape, v.dtype) for v in layer.trainable_variables])
    for old, variable in zip(before, layer.trainable_variables):
        np.testing.assert_allclose(
            old - variable.numpy().astype("float64"), 0.25 * np.ones_like(old), atol=4e-3
        )
