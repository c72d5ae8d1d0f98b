"""Loss and record of a batch, against Keras' `compute_loss`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.loss.loss_and_metrics import LossAndMetrics

pytestmark = pytest.mark.numbers

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
W = np.random.default_rng(2).uniform(size=12).astype("float32")
ONE_HOT = np.eye(3, dtype="float32")[np.random.default_rng(1).integers(0, 3, size=12)]


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", kernel_regularizer="l2")])


def test_eager_equals_graph():
    loss_and_metrics = LossAndMetrics(model(), "categorical_crossentropy", ["accuracy", "mae"])
    batch = (tf.constant(X), tf.constant(ONE_HOT), tf.constant(W))
    eager = loss_and_metrics(batch, False)[1]
    graph = tf.function(lambda b: loss_and_metrics(b, False)[1])(batch)
    np.testing.assert_allclose([float(v) for v in eager], [float(v) for v in graph], rtol=1e-6)


def test_loss_functions():
    network = model()
    told = []

    def loss(model, batch, training):
        told.append(training)
        return loops.mean_loss(keras.losses.mean_squared_error(batch[1], model(batch[0], training=training)))

    loss_and_metrics = LossAndMetrics(network, loss)
    batch = (tf.constant(X), tf.constant(ONE_HOT))
    loss_and_metrics(batch, True)
    loss_and_metrics(batch, False)
    assert told == [True, False]
    loss_and_metrics.check_evaluates()


def test_a_loss_function_finds_x_first_whatever_the_batch():
    network, seen = model(), []

    def loss(model, batch):
        seen.append([type(batch), len(batch), getattr(batch[0], "shape", None)])
        return tf.reduce_mean(model(batch[0]))

    loss_and_metrics = LossAndMetrics(network, loss)
    x, y, weight = tf.constant(X), tf.constant(ONE_HOT), tf.constant(W)
    for batch in (x, (x,), (x, y), (x, y, weight)):
        loss_and_metrics(batch, True)
    assert seen == [[tuple, length, x.shape] for length in (1, 1, 2, 3)]


def test_bad_losses_raise_at_the_door():
    network, batch = model(), (tf.constant(X), tf.constant(ONE_HOT))
    with pytest.raises(ValueError, match="is no Keras loss. Did you mean 'mean_squared_error'"):
        LossAndMetrics(network, "meen_squared_error")
    with pytest.raises(TypeError, match="`loss` must be a Keras loss, its name or a function"):
        LossAndMetrics(network, 3)
    with pytest.raises(TypeError, match="`loss` is a function of y_true, y_pred, and a step .*mean_loss"):
        LossAndMetrics(network, lambda y_true, y_pred: y_true - y_pred)
    with pytest.raises(ValueError, match="reduction 'none' and gives shape .*sum_over_batch_size"):
        LossAndMetrics(network, keras.losses.MeanSquaredError(reduction="none"))(batch, True)
    with pytest.raises(ValueError, match="returned shape .*not a scalar"):
        LossAndMetrics(network, lambda model, batch: model(batch[0]))(batch, True)
    with pytest.raises(ValueError, match="The batch has no `y`"):
        LossAndMetrics(network, "mse")(batch[0], True)
    with pytest.raises(ValueError, match="`metrics` need predictions"):
        LossAndMetrics(network, lambda model, batch: tf.reduce_sum(model(batch[0])), ["mae"])(batch, True)
    with pytest.raises(ValueError, match="without a parameter `training`"):
        LossAndMetrics(network, lambda model, batch: tf.reduce_sum(model(batch[0]))).check_evaluates()


def test_keras_own_loss_functions_and_classes():
    network, batch = model(), (tf.constant(X), tf.constant(ONE_HOT))
    by_name = LossAndMetrics(network, "mean_squared_error")(batch, False)[0]
    assert float(LossAndMetrics(network, keras.losses.mean_squared_error)(batch, False)[0]) == float(by_name)
    with pytest.raises(TypeError, match="`loss` is the class MeanSquaredError: call it"):
        LossAndMetrics(network, keras.losses.MeanSquaredError)
