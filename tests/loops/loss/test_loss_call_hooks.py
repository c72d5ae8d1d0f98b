"""Keras losses that a loss function calls: their values, and what a step knows of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

X, Y = np.arange(12.0).reshape(4, 3) / 10, np.ones((4, 1))
WEIGHT = np.array([1.0, 0.0, 2.0, 3.0])


class ByItself(keras.losses.MeanSquaredError):
    """Reduces by itself, and by what it inherits."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return 2.0 * super().__call__(y_true, y_pred, sample_weight)


def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])


def calling(loss, change=lambda value: value):
    def function(model, batch, training=True):
        return change(loss(batch[1], y_pred=model(batch[0]), sample_weight=(*batch[2:], None)[0]))

    return function


@pytest.mark.parametrize(
    "loss, change",
    [
        (keras.losses.MeanSquaredError(), tf.identity),
        (keras.losses.MeanSquaredError(reduction="sum"), tf.identity),
        (keras.losses.MeanSquaredError(reduction="none"), tf.reduce_mean),
        (ByItself(), tf.identity),
    ],
)
def test_values_are_those_of_keras(loss, change):
    network = model()
    for weight in (None, WEIGHT):
        expected = change(loss(Y, network(X), weight))
        found = loops.EvalStep(network, calling(loss, change))(X, Y, weight)["loss"]
        assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_a_call_in_a_function_of_its_own_is_keras():
    """The step cannot use what is made in another graph."""
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    network = model()
    expected = float(loss(Y, network(X), WEIGHT))
    step = loops.TrainStep(network, calling(tf.function(loss)), keras.optimizers.SGD(0.0), accumulate=2)
    assert float(step(X, Y, WEIGHT)["loss"]) == pytest.approx(expected, rel=1e-6)


def test_a_sum_is_not_accumulated():
    step = loops.TrainStep(
        model(), calling(keras.losses.MeanSquaredError(reduction="sum")), "sgd", accumulate=2
    )
    with pytest.raises(ValueError, match="`loss` has the reduction 'sum', and `accumulate` averages"):
        step(X, Y)


def test_outside_of_a_loss_function_keras_is_as_it_was():
    method = keras.losses.Loss.__call__
    with pytest.raises(RuntimeError, match="in the function"):
        loops.EvalStep(model(), calling(lambda *_, **__: raise_inside(method)))(X, Y)
    assert keras.losses.Loss.__call__ is method


def raise_inside(method):
    assert keras.losses.Loss.__call__ is not method
    raise RuntimeError("in the function")
