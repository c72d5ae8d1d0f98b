"""Metrics as sums and weights, against Keras' own metrics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.loss.metrics import StepMetric, resolve_metrics
from gradloop.loops.loss.records import Records, RunningMeans

pytestmark = pytest.mark.numbers

SIZES = (8, 8, 3)


def _batches(kind, weights=None):
    """Three batches, the last one short, of `(y, predictions, weight)`."""
    random = np.random.RandomState(4)
    for size in SIZES:
        if kind == "sparse":
            y, p = random.randint(0, 3, size), random.dirichlet(np.ones(3), size)
        elif kind == "sparse column":
            y, p = random.randint(0, 3, (size, 1)), random.dirichlet(np.ones(3), size)
        elif kind == "one-hot":
            y, p = np.eye(3)[random.randint(0, 3, size)], random.dirichlet(np.ones(3), size)
        elif kind == "binary":
            y, p = random.randint(0, 2, (size, 1)), random.rand(size, 1)
        elif kind == "binary flat":
            y, p = random.randint(0, 2, size), random.rand(size, 1)
        elif kind == "sequence":
            y, p = random.randint(0, 3, (size, 5)), random.dirichlet(np.ones(3), (size, 5))
        else:
            y, p = random.rand(size, 4), random.rand(size, 4)
        shape = {None: None, "example": (size,), "column": (size, 1), "time": (size, 5)}[weights]
        weight = None if shape is None else tf.constant(random.rand(*shape), tf.float32)
        if y.dtype == np.float64:
            y = y.astype("float32")
        yield tf.constant(y), tf.constant(p, tf.float32), weight


def _ours(step_metric, batches):
    means = RunningMeans([step_metric])
    rows = []
    for y, predictions, weight in batches:
        examples = tf.cast(len(y), tf.float32)
        total, count = step_metric(y, predictions, weight, examples)
        assert total.dtype == count.dtype == tf.float32
        rows.append([0.0, float(examples), float(total), float(count)])
    for row in rows:
        means.add(Records(np.array([row], np.float32), [step_metric]))
    values = Records(np.array(rows, np.float32), [step_metric]).values()
    return means.result()[step_metric.name], values[step_metric.name]


def _theirs(metric, batches):
    each = []
    for y, predictions, weight in batches:
        alone = type(metric).from_config(metric.get_config())
        alone.update_state(y, predictions, sample_weight=weight)
        each.append(float(alone.result()))
        metric.update_state(y, predictions, sample_weight=weight)
    return float(metric.result()), each


ACCURACIES = {
    "sparse": keras.metrics.SparseCategoricalAccuracy,
    "sparse column": keras.metrics.SparseCategoricalAccuracy,
    "sequence": keras.metrics.SparseCategoricalAccuracy,
    "one-hot": keras.metrics.CategoricalAccuracy,
    "binary": keras.metrics.BinaryAccuracy,
    "binary flat": keras.metrics.BinaryAccuracy,
}
NAMED = [
    ("mse", "real", keras.metrics.MeanSquaredError),
    ("MAE", "real", keras.metrics.MeanAbsoluteError),
    ("mean_squared_logarithmic_error", "real", keras.metrics.MeanSquaredLogarithmicError),
    ("MeanSquaredError", "real", keras.metrics.MeanSquaredError),
    ("huber", "real", lambda: keras.metrics.MeanMetricWrapper(keras.metrics.huber)),
    ("kl_divergence", "one-hot", keras.metrics.KLDivergence),
    ("binary_accuracy", "binary", keras.metrics.BinaryAccuracy),
    ("binary_crossentropy", "binary", keras.metrics.BinaryCrossentropy),
    ("categorical_crossentropy", "one-hot", keras.metrics.CategoricalCrossentropy),
    ("sparse_categorical_crossentropy", "sparse", keras.metrics.SparseCategoricalCrossentropy),
    ("top_k_categorical_accuracy", "one-hot", keras.metrics.TopKCategoricalAccuracy),
    ("sparse_top_k_categorical_accuracy", "sparse", keras.metrics.SparseTopKCategoricalAccuracy),
]
CASES = [(name, kind, metric) for kind, metric in ACCURACIES.items() for name in ("accuracy", "acc")]


@pytest.mark.parametrize("weights", [None, "example", "column", "time"])
@pytest.mark.parametrize("name, kind, metric", CASES + NAMED)
def test_means_are_those_of_keras(name, kind, metric, weights):
    if weights is not None and (weights == "time") != (kind == "sequence"):
        return
    (step_metric,) = resolve_metrics([name])
    assert step_metric.name == name and step_metric.stateful is None
    mean, each = _ours(step_metric, _batches(kind, weights))
    expected_mean, expected_each = _theirs(metric(), _batches(kind, weights))
    np.testing.assert_allclose(each, expected_each, rtol=2e-6, atol=1e-7)
    assert mean == pytest.approx(expected_mean, rel=2e-6)


@pytest.mark.parametrize("weights", [None, "example"])
def test_functions_of_ones_own(weights):
    def distance(y, predictions):
        return tf.reduce_max(tf.abs(y - predictions), axis=-1)

    (step_metric,) = resolve_metrics([distance])
    assert step_metric.name == "distance"
    mean, _ = _ours(step_metric, _batches("real", weights))
    reference = keras.metrics.MeanMetricWrapper(distance)
    for y, predictions, weight in _batches("real", weights):
        reference.update_state(y, predictions, sample_weight=weight)
    assert mean == pytest.approx(float(reference.result()), rel=1e-6)


def test_a_function_that_averages_already_counts_its_examples():
    step_metric = StepMetric("mean", lambda y, p: tf.reduce_mean(p))
    mean, each = _ours(step_metric, _batches("real"))
    parts = [p.numpy() for _, p, _ in _batches("real")]
    np.testing.assert_allclose(each, [part.mean() for part in parts], rtol=1e-6)
    assert mean == pytest.approx(np.concatenate(parts).mean(), rel=1e-6)


@pytest.mark.parametrize("weights", [None, "example"])
@pytest.mark.parametrize("name", ["accuracy", "mae", "binary_accuracy"])
def test_predictions_without_a_last_axis(name, weights):
    (step_metric,) = resolve_metrics([name])
    flat = [(tf.reshape(y, [-1]), tf.reshape(p, [-1]), w) for y, p, w in _batches("binary", weights)]
    full = _ours(step_metric, _batches("binary", weights))
    np.testing.assert_allclose(_ours(step_metric, flat)[0], full[0], rtol=1e-6)
    np.testing.assert_allclose(_ours(step_metric, flat)[1], full[1], rtol=1e-6)


@pytest.mark.parametrize("weights", [None, "example"])
@pytest.mark.parametrize(
    "make", [lambda: keras.metrics.AUC(num_thresholds=20), lambda: keras.metrics.Precision(name="p")]
)
def test_metrics_with_state_run_on(make, weights):
    metric = make()
    (step_metric,) = resolve_metrics([metric])
    assert step_metric.name == metric.name and step_metric.stateful is metric
    mean, each = _ours(step_metric, _batches("binary", weights))
    reference, expected = make(), []
    for y, predictions, weight in _batches("binary", weights):
        reference.update_state(y, predictions, sample_weight=weight)
        expected.append(float(reference.result()))
    np.testing.assert_allclose(each, expected, rtol=1e-6)
    assert mean == pytest.approx(expected[-1], rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["mse", "mean_squared_error", "mae", "cosine_similarity"])
def test_half_precision_is_measured_in_single(name, dtype):
    y, predictions = tf.fill([4, 500], 300.0), tf.fill([4, 500], 1.0)  # their squares overflow in float16
    (step_metric,) = resolve_metrics([name])
    expected, _ = step_metric(y, predictions, None, tf.constant(4.0))
    for targets in (y, tf.cast(y, dtype)):
        total, _ = step_metric(targets, tf.cast(predictions, dtype), None, tf.constant(4.0))
        assert np.isfinite(float(total)) and float(total) == pytest.approx(float(expected), rel=1e-6)


def test_half_precision_reaches_functions_of_ones_own_in_single():
    seen = []

    def look(y, predictions):
        seen.extend([y.dtype, predictions["a"].dtype])
        return predictions["a"][:, 0]

    (step_metric,) = resolve_metrics([look])
    step_metric(tf.constant([1, 2]), {"a": tf.ones((2, 1), tf.float16)}, None, tf.constant(2.0))
    assert seen == [tf.int32, tf.float32]


@pytest.mark.parametrize("name", ["poisson", "log_cosh", "mse", "hinge", "binary_crossentropy", "huber"])
@pytest.mark.parametrize("shape", [(8,), (4, 2)])
def test_targets_without_the_last_dimension_of_the_predictions(name, shape):
    y, predictions = np.random.RandomState(0).uniform(0.1, 0.9, (2, *shape)).astype("float32")
    (step_metric,) = resolve_metrics([name])
    expected = keras.losses.get(name)(y[..., None], predictions[..., None]).numpy().mean()
    for given in ((y, predictions[..., None]), (y[..., None], predictions)):
        total, count = step_metric(*map(tf.constant, given), None, tf.constant(float(shape[0])))
        assert float(total / count) == pytest.approx(expected, rel=1e-5)


def test_a_metric_class_by_name():
    (step_metric,) = resolve_metrics(["AUC"])
    assert step_metric.name == "AUC" and isinstance(step_metric.stateful, keras.metrics.AUC)


def test_a_metric_that_is_no_scalar():
    (step_metric,) = resolve_metrics([keras.metrics.F1Score(name="f1")])
    y, predictions, _ = next(_batches("one-hot"))
    with pytest.raises(ValueError, match="`metrics`: the result of 'f1' is no scalar"):
        step_metric(y, predictions, None, tf.constant(8.0))


@pytest.mark.parametrize("metrics", ["accuracy", keras.metrics.Mean(), {"a": "mse"}, None, 3])
def test_metrics_must_be_a_list(metrics):
    with pytest.raises(TypeError, match="`metrics` must be a list or tuple, not"):
        resolve_metrics(metrics)


def test_metrics_of_another_type():
    with pytest.raises(TypeError, match="`metrics` takes names, functions and Keras metrics, not 3"):
        resolve_metrics(["mse", 3])


@pytest.mark.parametrize(
    "name, suggestion",
    [
        ("acuracy", "'accuracy'"),
        ("Auc", "'AUC'"),
        ("mean_square_error", "'mean_squared_error'"),
        ("BinaryAcuracy", "'[Bb]inary_?[Aa]ccuracy'"),
    ],
)
def test_unknown_names(name, suggestion):
    with pytest.raises(ValueError, match=f"`metrics`: '{name}' is no .*Did you mean {suggestion}"):
        resolve_metrics([name])


@pytest.mark.parametrize("name", ["get", "serialize", "deserialize", "__name__", "qqqqqq"])
def test_helpers_of_the_module_are_no_metrics(name):
    with pytest.raises(ValueError, match=f"`metrics`: '{name}' is no Keras metric"):
        resolve_metrics([name])


def test_a_class_that_needs_arguments():
    with pytest.raises(ValueError, match="`metrics`: 'MeanIoU' needs arguments: pass the object"):
        resolve_metrics(["MeanIoU"])


@pytest.mark.parametrize(
    "metrics, name",
    [
        (["mse", "mse"], "mse"),
        ([keras.metrics.Mean(name="loss")], "loss"),
        ([keras.metrics.AUC(name="accuracy"), "accuracy"], "accuracy"),
    ],
)
def test_names_must_differ(metrics, name):
    with pytest.raises(ValueError, match=f"`metrics` has two values called '{name}'"):
        resolve_metrics(metrics)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_reports_what_keras_does(weighted):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    random = np.random.RandomState(0)
    x, y = random.rand(19, 3).astype("float32"), random.randint(0, 2, (19, 1))
    weight = random.rand(19).astype("float32") if weighted else None
    names = lambda: ["accuracy", "mse", keras.metrics.AUC(num_thresholds=30, name="auc")]  # noqa: E731
    model.compile(loss="binary_crossentropy", metrics=[], weighted_metrics=names())
    expected = model.evaluate(x, y, 8, verbose=0, sample_weight=weight, return_dict=True)
    step = loops.EvalStep(model, "binary_crossentropy", names())
    ours = loops.evaluate(step, loops.Batches(x, y, 8, shuffle=False, sample_weight=weight))
    assert ours == pytest.approx(expected, rel=1e-6)
