"""A Keras loss by its name, and its value over a batch, against Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.loss.batch_dependent import BatchDependentError
from gradloop.loops.loss.keras_loss import loss_value, resolve_loss
from gradloop.loops.loss.loss_and_metrics import LossAndMetrics

pytestmark = pytest.mark.numbers
# Keras 3.12's own `L1` is float32 in a layer of float64, too.
L1 = keras.regularizers.L1L2(l1=0.01)

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
W = np.random.default_rng(2).uniform(size=12).astype("float32")
ONE_HOT = np.eye(3, dtype="float32")[np.random.default_rng(1).integers(0, 3, size=12)]


def model(activation="softmax"):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation, kernel_regularizer=L1)])


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    "loss",
    ["categorical_crossentropy", "mse", "mean_absolute_error", "kl_divergence", "huber", "log_cosh"],
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


def test_one_loss_for_all_examples():
    network = model()
    expected = float(keras.losses.dice(ONE_HOT, network(X))) + float(network.losses[0])
    found = LossAndMetrics(network, "dice")((tf.constant(X), tf.constant(ONE_HOT)), False)[0]
    assert float(found) == pytest.approx(expected)
    with pytest.raises(ValueError, match="`sample_weight` cannot weigh `loss` 'dice', which gives one loss"):
        LossAndMetrics(network, "dice")((tf.constant(X), tf.constant(ONE_HOT), tf.constant(W)), False)


@pytest.mark.parametrize("targets", [(12,), (12, 1)])
@pytest.mark.parametrize("loss", ["mse", "binary_crossentropy", "huber"])
def test_weights_of_outputs_without_a_last_dimension(loss, targets):
    """Keras multiplies the mean of the weights by the mean of the losses."""
    y, predictions = np.random.default_rng(5).uniform(size=(2, 12)).astype("float32")
    expected = np.mean(W * keras.losses.get(loss)(y[:, None], predictions[:, None]).numpy())
    given = tf.constant(y.reshape(targets)), tf.constant(predictions), tf.constant(W)
    found = loss_value(resolve_loss(loss), *given, tf.constant(12.0))
    assert float(found.value) == pytest.approx(expected, rel=1e-6)


def test_a_loss_that_reduces_by_itself():
    class Own(keras.losses.Loss):
        def __call__(self, y, predictions, sample_weight=None):
            return tf.reduce_sum(tf.abs(y - predictions) * sample_weight)

    given = tf.constant([1.0, 2.0]), tf.constant([0.0, 0.0]), tf.constant([3.0, 1.0]), tf.constant(2.0)
    assert [float(number) for number in loss_value(Own(), *given)[:2]] == [5.0, 2.0]
    with pytest.raises(BatchDependentError, match="gives one number for all examples, so .*2 replicas"):
        loss_value(Own(), *given, "2 replicas")
