"""Everything as before once a range test is over."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.optim import lr_range_test

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype("float32")
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype("int64")

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(1e-3, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(1e-3, weight_decay=0.1, clipnorm=1.0),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-3, momentum=0.5, centered=True),
    "averaged": lambda: keras.optimizers.Adam(1e-3, use_ema=True),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3)),
}


# The others have no state of another kind.
ALWAYS = [("adamw", False), ("rmsprop", True), ("averaged", False), ("scaled", True)]


@pytest.mark.parametrize(
    "name, started",
    [
        *ALWAYS,
        *(
            pytest.param(name, started, marks=pytest.mark.long)
            for name in OPTIMIZERS
            for started in (False, True)
            if (name, started) not in ALWAYS
        ),
    ],
)
def test_all_state_is_bit_identical_afterwards(busy_step, nothing_changes, name, started):
    step, data = busy_step(OPTIMIZERS[name]()), loops.Batches(X, Y, 8)
    if started:
        step.run(iter(data), 3)
    epoch = data.epoch
    with nothing_changes(step):
        curve = lr_range_test(step, data, 1e-5, 1e-1, 12)
    assert len(curve.losses) >= 3 and data.epoch == epoch


def test_mixed_float16_and_accumulation(busy_step, nothing_changes):
    keras.config.set_dtype_policy("mixed_float16")
    step, data = busy_step(keras.optimizers.Adam(1e-3), accumulate=3, clip_norm=1.0), loops.Batches(X, Y, 8)
    assert isinstance(step.optimizer, keras.optimizers.LossScaleOptimizer)
    step.run(iter(data), 4)  # one batch is summed, not applied yet
    with nothing_changes(step):
        lr_range_test(step, data, 1e-5, 1e-1, 10)


def test_groups_keep_their_proportions_and_their_state(busy_step, nothing_changes):
    step = busy_step("sgd")
    groups = {
        "base": optim.Group("hidden", lr_scale=0.1),
        "norm": optim.Group(L.BatchNormalization, learning_rate=1e-3),
        "head": optim.Group("head"),
    }
    plan = optim.partition(step.model, groups)
    grouped = optim.GroupedOptimizer(keras.optimizers.Adam(1e-2), plan)
    step = loops.TrainStep(step.model, "binary_crossentropy", grouped)
    data, real, rates = loops.Batches(X, Y, 8), step.run, []

    def run(iterator, steps):
        rates.append({name: float(rate) for name, rate in grouped.learning_rates.items()})
        return real(iterator, steps)

    step.run = run
    with nothing_changes(step):
        lr_range_test(step, data, 1e-4, 1e-2, 3)
    expected = [{"base": rate / 10, "norm": 1e-3, "head": rate} for rate in (1e-4, 1e-3, 1e-2)]
    assert rates == [pytest.approx(each, rel=1e-6) for each in expected]


def losses_of_a_run(busy_step, test):
    """Two epochs, with something done in the middle of the first."""
    keras.utils.set_random_seed(7)
    step, data = busy_step(keras.optimizers.Adam(1e-2), accumulate=2), loops.Batches(X, Y, 8, seed=3)
    iterator = iter(data)
    found = [step.run(iterator, 3)]
    test(step, data, iterator)
    found += [step.run(iterator, 2), step.run(iter(data), 5)]
    return [values[name].tolist() for values in found for name in ("loss", "accuracy", "auc")]


@pytest.mark.parametrize("source", ["batches", "iterator"])
def test_training_goes_on_as_if_nothing_had_been_tested(busy_step, source):
    def test(step, data, iterator):
        lr_range_test(step, data if source == "batches" else iterator, 1e-6, 1.0, 20)

    assert losses_of_a_run(busy_step, test) == losses_of_a_run(busy_step, lambda *_: None)


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [Interrupted, *(pytest.param(e, marks=pytest.mark.release) for e in (KeyboardInterrupt, ValueError))],
)
def test_all_is_restored_when_an_error_passes_through(busy_step, nothing_changes, error, monkeypatch):
    step, data = busy_step(keras.optimizers.Adam(1e-3)), loops.Batches(X, Y, 8)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40, seed=0).batch(4)
    iterator = iter(dataset)
    step.run(iter(data), 2)
    real, calls = step.run, []

    def fails_later(iterator, steps):
        result = real(iterator, steps)
        calls.append(steps)
        if len(calls) % 4 == 0:
            raise error("stop")
        return result

    monkeypatch.setattr(step, "run", fails_later)
    for source in (data, iterator):
        with nothing_changes(step), pytest.raises(error, match="stop"):
            lr_range_test(step, source, 1e-4, 1e-1, 30)
    assert calls == [1] * 8 and data.epoch == 1
    assert len(list(iterator)) == 10
