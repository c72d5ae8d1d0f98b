"""Metric objects: weights of examples as each takes them, and masks, in any precision."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.loss.metrics import resolve_metrics
from gradloop.loops.loss.stateful_metrics import update

pytestmark = pytest.mark.numbers

RANDOM = np.random.RandomState(0)
LABELS = RANDOM.randint(0, 2, (4, 4, 3))
PROBABILITIES = RANDOM.rand(4, 4, 3).astype("float32")
WEIGHT = RANDOM.rand(4).astype("float32")
OBJECTS = {
    "wrapper": lambda: keras.metrics.MeanAbsoluteError(),
    "root": lambda: keras.metrics.RootMeanSquaredError(),
    "auc": lambda: keras.metrics.AUC(num_thresholds=20),
    "precision": lambda: keras.metrics.Precision(),
    "iou": lambda: keras.metrics.BinaryIoU(dtype="float32"),
}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("name", OBJECTS)
def test_weights_of_examples(name, dimensions):
    """As many positions as examples, which Keras takes for weights of positions where it takes any."""
    y, predictions = (
        array[(slice(None),) * dimensions + (0,) * (3 - dimensions)] for array in (LABELS, PROBABILITIES)
    )
    metric, each = OBJECTS[name](), OBJECTS[name]()
    update(metric, tf.constant(y), tf.constant(predictions), tf.constant(WEIGHT))
    every = np.broadcast_to(WEIGHT.reshape(4, *[1] * (dimensions - 1)), y.shape)
    each.update_state(y.reshape(-1, 1), predictions.reshape(-1, 1), sample_weight=every.ravel())
    assert float(metric.result()) == pytest.approx(float(each.result()), rel=1e-6)


def test_weights_of_examples_for_one_hot_labels():
    y = np.eye(3)[RANDOM.randint(0, 3, 4)]
    for make in (lambda: keras.metrics.F1Score(average="macro"), lambda: keras.metrics.CategoricalAccuracy()):
        expected = make()
        expected.update_state(y, PROBABILITIES[:, 0], sample_weight=WEIGHT)
        for weight in (WEIGHT, WEIGHT[:, None]):
            metric = make()
            update(metric, tf.constant(y), tf.constant(PROBABILITIES[:, 0]), tf.constant(weight))
            assert float(metric.result()) == float(expected.result())


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_weights_of_the_numbers_of_a_sequence(masked, column):
    y, predictions, weight = LABELS[:, :, 0], PROBABILITIES[:, :, 0], RANDOM.rand(4, 4).astype("float32")
    mask = RANDOM.rand(4, 4) < 0.6
    expected = np.average(abs(y - predictions), weights=weight * mask if masked else weight)
    given = tf.constant(predictions[..., None] if column else predictions)
    if masked:
        given._keras_mask = tf.constant(mask)
    metric = keras.metrics.MeanAbsoluteError()
    update(metric, tf.constant(y[..., None] if column else y), given, tf.constant(weight))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(
    "ignore_class" not in inspect.signature(keras.metrics.SparseCategoricalCrossentropy).parameters,
    reason="this version of Keras has no metric that ignores a class",
)
@pytest.mark.parametrize("weight", [WEIGHT, WEIGHT[:, None]])
def test_weights_of_examples_beside_an_ignored_class(weight):
    y = RANDOM.randint(0, 3, (4, 4))
    losses = -np.log(np.take_along_axis(PROBABILITIES, y[..., None], -1)[..., 0])
    losses += np.log(PROBABILITIES.sum(-1))
    metric = keras.metrics.SparseCategoricalCrossentropy(ignore_class=1)
    update(metric, tf.constant(y), tf.constant(PROBABILITIES), tf.constant(weight))
    expected = np.average(losses, weights=(y != 1) * WEIGHT[:, None])
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "metric", ["accuracy", "mae", keras.metrics.mean_absolute_error, keras.metrics.MeanAbsoluteError()]
)
def test_masked_positions_count_nothing(metric, weighted, dtype):
    """As many positions as examples here too."""
    y, predictions, mask = tf.constant(LABELS), tf.constant(PROBABILITIES, dtype), RANDOM.rand(4, 4) < 0.6
    predictions._keras_mask = tf.constant(mask)
    counts = mask * (WEIGHT if weighted else np.ones(4))[:, None]
    rounded = tf.cast(predictions, tf.float32).numpy()
    values = (
        (LABELS.argmax(-1) == rounded.argmax(-1)) if metric == "accuracy" else abs(LABELS - rounded).mean(-1)
    )
    if metric == "accuracy":
        y = tf.constant(LABELS.argmax(-1))
    (step_metric,) = resolve_metrics([metric])
    if step_metric.stateful is not None:
        step_metric.stateful.reset_state()
    weight = tf.constant(WEIGHT) if weighted else None
    total, count = step_metric(y, predictions, weight, tf.constant(4.0))
    assert float(total / count) == pytest.approx(np.average(values, weights=counts), rel=1e-5)


def test_a_metric_function_with_one_value_for_all_examples():
    (step_metric,) = resolve_metrics([lambda y, p: tf.reduce_mean(p)])
    with pytest.raises(
        ValueError, match="`sample_weight` cannot weigh `metrics` '<lambda>', .*: return one for each"
    ):
        step_metric(tf.ones(3), tf.ones(3), tf.ones(3), tf.constant(3.0))


def test_outputs_without_a_last_dimension_and_a_short_batch():
    """Keras' means take such a batch for one example, and refuse weights."""
    metric, y, p = keras.metrics.MeanSquaredError(), RANDOM.rand(5).astype("float32"), PROBABILITIES[0, :, 0]
    for part in (slice(0, 3), slice(3, 4)):
        update(metric, tf.constant(y[:4][part]), tf.constant(p[part]), tf.constant(WEIGHT[part]))
    assert float(metric.result()) == pytest.approx(np.average((y[:4] - p) ** 2, weights=WEIGHT), rel=1e-6)
