"""Losses that take the examples of a batch together, and losses that do not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.loss.batch_dependent import (
    BatchDependentError,
    check_metric_is_per_example,
    check_state_is_additive,
)
from gradloop.loops.loss.keras_loss import loss_value, resolve_loss


class Own(keras.losses.Loss):
    def __init__(self, function):
        super().__init__(name="own")
        self.function = function

    def call(self, y, predictions):
        return self.function(y, predictions)


class OfStock(keras.losses.MeanSquaredError):
    def call(self, y, predictions):
        return super().call(y, predictions) / tf.reduce_max(predictions)


def in_batch(y, predictions):
    """Each example beside those of the others (van den Oord et al. 2018)."""
    scores = tf.matmul(predictions, predictions, transpose_b=True)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(scores)[0]), scores)


def noisy(y, predictions):
    return tf.reduce_sum(tf.square(predictions + tf.random.normal(tf.shape(predictions))), -1)


def needs_four_columns(y, predictions):
    return tf.reduce_sum(tf.square(tf.ensure_shape(predictions, [None, 6])[:, :4]), -1)


TOGETHER = {
    "circle": keras.losses.Circle(),
    "dice": "dice",
    "tversky": keras.losses.Tversky(axis=(0, 1)),
    "dice of a channel": keras.losses.Dice(axis=0),
    "mean": Own(lambda y, p: tf.reduce_mean(tf.square(p))),
    "in batch": Own(in_batch),
    "a subclass of a stock loss": OfStock(),
    "standardised": Own(lambda y, p: tf.reduce_sum(p / tf.math.reduce_std(p, 0), -1)),
}
ALONE = {
    "categorical_crossentropy": "categorical_crossentropy",
    "dice": keras.losses.Dice(axis=1),
    "squares": Own(lambda y, p: tf.reduce_sum(tf.square(p - y), -1)),
    "random": Own(noisy),
    "of one shape": Own(needs_four_columns),
}
RANDOM = np.random.RandomState(0)
PREDICTIONS = tf.nn.l2_normalize(tf.constant(RANDOM.rand(8, 6), tf.float32), -1)


def value_of(loss, why):
    """While tracing, where the number of examples is open, as in a step."""
    spec = tf.TensorSpec([None, 6])
    labels = tf.TensorSpec([None], tf.int32) if isinstance(loss, keras.losses.Circle) else spec

    @tf.function(autograph=False)
    def function(y, predictions):
        return loss_value(resolve_loss(loss), y, predictions, None, tf.constant(8.0), why).value

    return function.get_concrete_function(labels, spec)


@pytest.mark.parametrize("name", TOGETHER)
def test_a_part_of_a_batch_is_refused(name):
    value_of(TOGETHER[name], "")
    with pytest.raises(
        BatchDependentError,
        match="`loss` '.*' gives .*, so that of .* parts .2 replicas.: use one device and",
    ):
        value_of(TOGETHER[name], "2 replicas")


@pytest.mark.parametrize("name", ALONE)
def test_a_part_of_a_batch_is_taken(name):
    value_of(ALONE[name], "2 replicas")


def test_accumulation_is_refused_before_anything_changes():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    step = loops.TrainStep(model, "dice", "sgd", accumulate=2)
    before = model.get_weights()
    with pytest.raises(BatchDependentError, match="not made up of those of its parts .`accumulate`."):
        step(PREDICTIONS, PREDICTIONS)
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights()))
    assert int(step.batches_done.numpy()) == 0
    with pytest.raises(ValueError, match="`loss` has the reduction 'sum', and `accumulate` averages"):
        loops.TrainStep(model, keras.losses.MeanSquaredError(reduction="sum"), "sgd", accumulate=2)


class OwnMetric(keras.metrics.Metric):
    """Adds what `function` gives for a batch, or takes the largest."""

    def __init__(self, function=tf.reduce_sum, change="assign_add", name="own", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.function, self.change = function, change
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")

    def update_state(self, y, predictions, sample_weight=None):
        value = self.function(predictions)
        self.total.assign(
            self.total + value if self.change == "assign_add" else tf.maximum(self.total, value)
        )

    def result(self):
        return self.total

    def get_config(self):
        return {**super().get_config(), "function": self.function, "change": self.change}


class OfMean(keras.metrics.Mean):
    def update_state(self, y, predictions, sample_weight=None):
        super().update_state(tf.reduce_max(tf.abs(y - predictions), -1), sample_weight)


class OfWrapper(keras.metrics.MeanSquaredError):
    def update_state(self, y, predictions, sample_weight=None):
        super().update_state(y, predictions / tf.reduce_max(predictions), sample_weight)


@pytest.mark.parametrize(
    ("metric", "adds"),
    [
        (OwnMetric(), True),
        (OwnMetric(lambda p: tf.cast(tf.size(p), tf.float32)), True),
        (OwnMetric(lambda p: 1.0), False),  # of calls
        (OwnMetric(tf.reduce_mean), False),
        (OwnMetric(tf.reduce_max, "largest"), False),
        (keras.metrics.AUC(), True),
        (OfMean(name="own"), True),
        (OfWrapper(name="own"), False),
    ],
)
def test_states_of_metrics(metric, adds):
    given = tf.ones((3, 6)), PREDICTIONS
    if adds:
        check_state_is_additive(metric, *given)
    else:
        with pytest.raises(
            BatchDependentError, match="`metrics`: the state of 'own' .* not the sum of .*: count examples"
        ):
            check_state_is_additive(metric, *given)


@pytest.mark.parametrize(
    ("function", "splits"),
    [
        (keras.metrics.mean_squared_error, True),
        (lambda y, p: tf.reduce_max(tf.abs(y - p), -1), True),
        (lambda y, p: tf.reduce_max(tf.abs(y - p)), False),
        (lambda y, p: tf.reduce_sum(p - tf.reduce_mean(p, 0), -1), False),
    ],
)
def test_functions_of_metrics(function, splits):
    given = tf.ones((8, 6)), PREDICTIONS
    if splits:
        check_metric_is_per_example("own", function, given, function(*given))
    else:
        with pytest.raises(
            BatchDependentError, match="`metrics`: 'own' gives .*not made up of .*: .* on one device"
        ):
            check_metric_is_per_example("own", function, given, function(*given))
