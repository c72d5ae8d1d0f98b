"""`Update` does all that an optimizer is set to, and both halves of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.optim import GroupedOptimizer, partition

K = keras.optimizers


class Weights(keras.layers.Layer):
    """A weight, and a scale as a float8 layer has it: what a tape calls its gradient is its new value."""

    def __init__(self):
        super().__init__()
        self.weight = keras.Variable([1.0, 1.0], name="weight")
        self.scale = keras.Variable([2.0, 2.0], name="scale")
        self.scale.overwrite_with_gradient = True
        self.built = True


def made(make, grouped=False, dynamic=False, **options):
    weights, optimizer = Weights(), make()
    if grouped:
        optimizer = GroupedOptimizer(optimizer, partition(weights, {"all": "*"}))
    if dynamic:
        optimizer = K.LossScaleOptimizer(optimizer, initial_scale=64.0)
    return weights, loops.Update(optimizer, weights.trainable_variables, **options)


def given(weights, update, slope, scale):
    """Gradients of a loss of that slope along the weight, and a new value."""
    with tf.GradientTape() as tape:
        loss = update.scale_loss(tf.reduce_sum(weights.weight * tf.constant(slope)))
    return [tape.gradient(loss, weights.weight.value), tf.constant(scale)]


KINDS = {
    "sgd": lambda **k: K.SGD(0.5, **k),  # a fused kernel of TensorFlow
    "lion": lambda **k: K.Lion(0.5, **k),  # moves by the sign
}
EXPECTED = {"sgd": lambda gradient: 1 - 0.5 * gradient, "lion": lambda gradient: 1 - 0.5 * np.sign(gradient)}


@pytest.mark.parametrize("grouped, dynamic", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("factor", [None, 1024.0])
@pytest.mark.parametrize("kind", KINDS)
def test_both_halves_of_a_loss_scale_around_what_is_clipped(kind, factor, grouped, dynamic):
    weights, update = made(KINDS[kind], grouped, dynamic, clip_norm=1.0)
    update._inner.loss_scale_factor = factor
    update(given(weights, update, [3.0, -4.0], [7.0, 5.0]))
    np.testing.assert_allclose(weights.weight, EXPECTED[kind](np.array([0.6, -0.8])), rtol=1e-6)
    # A new value is neither unscaled nor clipped, nor in the norm.
    np.testing.assert_array_equal(weights.scale, [7, 5])


@pytest.mark.parametrize("setting", [{"clipnorm": 1.0}, {"global_clipnorm": 1.0}])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_fixed_loss_scale_and_the_optimizers_own_limit(setting, grouped):
    weights, update = made(lambda: K.SGD(0.5, loss_scale_factor=8.0, **setting), grouped)
    update(given(weights, update, [3.0, -4.0], [7.0, 5.0]))
    np.testing.assert_allclose(weights.weight, [0.7, 1.4], rtol=1e-6)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keras_counts", [False, True])
def test_new_values_accumulate_as_the_largest(kind, grouped, keras_counts):
    """As one batch of both: its largest number is that of one of them. Keras does the same."""
    options = {"gradient_accumulation_steps": 2} if keras_counts else {}
    weights, update = made(
        lambda: KINDS[kind](**options), grouped, accumulate=1 if keras_counts else 2, on_nonfinite="skip"
    )
    for slope, scale in (([1.0, 2.0], [9.0, 4.0]), ([3.0, 4.0], [8.0, 5.0])):
        np.testing.assert_array_equal(weights.scale, [2, 2])
        update(given(weights, update, slope, scale))
    np.testing.assert_array_equal(weights.scale, [9, 5])
    np.testing.assert_allclose(weights.weight, EXPECTED[kind](np.array([2.0, 3.0])), rtol=1e-6)
    # A step that is skipped changes neither.
    update(given(weights, update, [np.nan, 1.0], [1.0, 1.0]))
    np.testing.assert_array_equal(weights.scale, [9, 5])


@pytest.mark.parametrize("kind", KINDS)
def test_new_values_of_a_frozen_group_stay(kind):
    weights = Weights()
    optimizer = GroupedOptimizer(KINDS[kind](), partition(weights, {"scale": "scale", "weight": "weight"}))
    optimizer.freeze("scale")
    update = loops.Update(optimizer, weights.trainable_variables)
    call = tf.function(lambda: update([tf.ones(2), tf.constant([5.0, 6.0])]))
    call()
    np.testing.assert_array_equal(weights.scale, [2, 2])
    optimizer.unfreeze("scale")
    call()
    np.testing.assert_array_equal(weights.scale, [5, 6])


class Tenfold(keras.optimizers.SGD):
    """Overrides the method that `fit` calls."""

    def apply_gradients(self, grads_and_vars):
        return super().apply_gradients([(10 * gradient, variable) for gradient, variable in grads_and_vars])


@pytest.mark.parametrize("grouped", [False, True])
def test_an_overridden_apply_gradients_is_asked(grouped):
    weights, update = made(lambda: Tenfold(0.01), grouped)
    update(given(weights, update, [1.0, 2.0], [3.0, 3.0]))
    np.testing.assert_allclose(weights.weight, [0.9, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    "gradient", [np.array([3.0, 4.0]), [3, 4.0], np.array([3, 4])], ids=["array", "list", "ints"]
)
def test_gradients_and_a_loss_that_are_no_tensors(gradient):
    weights, update = made(KINDS["sgd"], clip_norm=1.0)
    update([gradient, np.array([1.0, 1.0])], loss=0.5)
    np.testing.assert_allclose(weights.weight, [0.7, 0.6], rtol=1e-6)
