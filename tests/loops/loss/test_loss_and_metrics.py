"""Loss and record of a batch, against Keras' `compute_loss`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.loss.keras_loss import resolve_loss
from gradloop.loops.loss.loss_and_metrics import LossAndMetrics

pytestmark = pytest.mark.numbers
# Keras 3.12's own `L1` is float32 in a layer of float64, too.
L1 = keras.regularizers.L1L2(l1=0.01)

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
W = np.random.default_rng(2).uniform(size=12).astype("float32")
ONE_HOT = np.eye(3, dtype="float32")[np.random.default_rng(1).integers(0, 3, size=12)]


def model(units=3, activation="softmax"):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation, kernel_regularizer=L1)])


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    "loss",
    ["categorical_crossentropy", "mse", "mean_absolute_error", "kl_divergence", "huber", "log_cosh", "dice"],
)
def test_the_loss_is_keras_with_regularisation(loss, weighted):
    network = model()
    network.compile("sgd", loss)
    weight = W if weighted else None
    expected = network.evaluate(X, ONE_HOT, sample_weight=weight, batch_size=12, verbose=0)
    values = loops.EvalStep(network, loss)(X, ONE_HOT, weight)
    np.testing.assert_allclose(float(values["loss"]), expected, rtol=1e-6)


@pytest.mark.parametrize("labels", ["int32", "int64", "uint8"])
@pytest.mark.parametrize(
    "shape, softmax, options",
    [
        ((12,), False, {}),
        ((12, 1), False, {}),
        ((6, 2), False, {}),
        ((12,), False, {"ignore_class": 1}),
        ((12,), True, {"from_logits": False}),
        ((12,), True, {}),  # Keras takes what goes into the softmax
        ((12,), False, {"dtype": "float16"}),
    ],
    ids=["flat", "column", "sequence", "ignored class", "probabilities", "softmax", "half precision"],
)
@pytest.mark.filterwarnings("ignore:.*produced by a Softmax activation")
def test_class_indices_give_keras_loss_and_gradient(labels, shape, softmax, options):
    loss = keras.losses.SparseCategoricalCrossentropy(**{"from_logits": True, **options})
    y = tf.constant(ONE_HOT.argmax(-1).reshape(shape), labels)
    x = tf.constant(X.reshape(*(shape if shape == (6, 2) else (12,)), 4))
    network = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(3, dtype=options.get("dtype"))])
    if softmax:
        network.add(keras.layers.Softmax())

    @tf.function(autograph=False)
    def both():
        variables = network.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            ours = LossAndMetrics(network, loss)((x, y), True)[0]
            theirs = loss(y, network(x, training=True))
        return (ours, *tape.gradient(ours, variables)), (theirs, *tape.gradient(theirs, variables))

    for one, other in zip(*both()):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_class_indices_take_no_other_axis():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, axis=0)
    with pytest.raises(ValueError, match="axis=-1"):
        loops.TrainStep(model(activation=None), loss, "sgd")(X, ONE_HOT.argmax(-1))


def test_a_loss_function_without_a_class_is_averaged(monkeypatch):
    monkeypatch.setattr(keras.losses, "get", lambda name: lambda_loss)
    loss = resolve_loss("anything")
    assert isinstance(loss, keras.losses.Loss)
    value = loss(tf.constant([[1.0], [3.0]]), tf.constant([[0.0], [0.0]]), sample_weight=[1.0, 0.0])
    assert float(value) == 0.5


def lambda_loss(y, predictions):
    return tf.reduce_mean(tf.abs(y - predictions), axis=-1)


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


def test_bad_losses_raise_at_the_door():
    network, batch = model(), (tf.constant(X), tf.constant(ONE_HOT))
    with pytest.raises(ValueError, match="is no Keras loss. Did you mean 'mean_squared_error'"):
        LossAndMetrics(network, "meen_squared_error")
    with pytest.raises(TypeError, match="`loss` must be a Keras loss, its name or a function"):
        LossAndMetrics(network, 3)
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
