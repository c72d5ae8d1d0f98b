"""Updates at lower rates than are set are those at the lower rates, whichever way they are made."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import optim
from gradloop.loops.update.restore import RateCuts, Restore
from gradloop.loops.update.step_update import StepUpdate
from tests.tolerance import rounding

K = keras.optimizers
DECAY = K.schedules.ExponentialDecay


def grouped(rate, model):
    """Groups that follow the rate, and with a number, a schedule and an optimizer of their own."""
    one, two, three, four = (f"layer_{index}" for index in range(4))
    groups = {
        "follows": optim.Group(one, lr_scale=0.5),
        "number": optim.Group(two, learning_rate=2 * rate),
        "schedule": optim.Group(three, learning_rate=DECAY(rate, 1, 0.5)),
        "optimizer": optim.Group(four, optimizer=K.Lion(3 * rate)),
    }
    return optim.GroupedOptimizer(K.Adam(DECAY(rate, 1, 0.9)), optim.partition(model, groups))


CASES = {
    "momentum": lambda rate, _: K.SGD(rate, momentum=0.9),
    "schedule": lambda rate, _: K.Adam(DECAY(rate, 1, 0.5)),
    "decay": lambda rate, _: K.AdamW(rate, weight_decay=0.1),
    "kernels of Keras": lambda rate, _: K.AdamW(DECAY(rate, 1, 0.5), weight_decay=0.1, clipnorm=1.0),
    "no fused operation": lambda rate, _: K.Lion(rate, use_ema=True),
    "function": lambda rate, _: K.Nadam(lambda: rate),
    "loss scale": lambda rate, _: K.LossScaleOptimizer(K.Adamax(rate), initial_scale=1.0),
    "groups": grouped,
}
ALWAYS = ("schedule", "no fused operation", "groups")


@pytest.mark.numbers
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, marks=() if name in ALWAYS else pytest.mark.release, id=name)
        for name, make in CASES.items()
    ],
)
def test_a_rate_that_is_cut_is_a_lower_rate(make):
    cuts = RateCuts(Restore(factor=0.5))
    cuts.count.assign(2)

    def updated(rate, rate_of):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(2, name=f"layer_{index}", dtype="float64") for index in range(4)]
        model = keras.Sequential([keras.Input((2,), dtype="float64"), *layers])
        update = StepUpdate(make(rate, model), model.trainable_variables, rate_of=rate_of)
        step = tf.function(lambda *gradients: update(gradients), autograph=False)
        for number in (1.0, -0.5, 2.0):
            step(*[tf.constant(number * np.ones(v.shape)) for v in model.trainable_variables])
        return model.get_weights()

    for one, other in zip(updated(0.4, cuts.rate_of), updated(0.1, None), strict=True):
        np.testing.assert_allclose(one, other, 1e3 * rounding(), 1e3 * rounding())


def test_a_count_that_changes_needs_no_trace():
    weight, cuts = keras.Variable(0.0), RateCuts(Restore(factor=0.1))
    update = StepUpdate(K.SGD(1.0), [weight], rate_of=cuts.rate_of)
    step = tf.function(lambda: update([tf.constant(1.0)]), autograph=False)
    found = []
    for count in range(3):
        cuts.count.assign(count)
        before = float(weight)
        step()
        found.append(before - float(weight))
    assert found == pytest.approx([1.0, 0.1, 0.01], rel=1e-5)
    assert step.experimental_get_tracing_count() == 1
