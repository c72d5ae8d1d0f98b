"""Weights and masks that fit what they weigh, and those that do not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.loss.keras_loss import loss_value, resolve_loss
from gradloop.loops.loss.metrics import resolve_metrics
from gradloop.loops.loss.weights import as_columns, fitted


@pytest.mark.parametrize(
    ("weight", "values", "expected"),
    [
        ((4,), (4,), (4,)),
        ((4,), (4, 4), (4, 1)),  # not along the last dimension
        ((4,), (4, 3, 2), (4, 1, 1)),
        ((4, 3), (4, 3, 2), (4, 3, 1)),
        ((4, 1), (4,), (4,)),
        ((4, 3, 1, 1), (4, 3), (4, 3)),
        ((4, 1), (4, 3), (4, 1)),
    ],
)
def test_shapes_that_fit(weight, values, expected):
    found = fitted(tf.ones(weight, tf.float64), tf.ones(values))
    assert found.shape == expected and found.dtype == tf.float32


@pytest.mark.parametrize(("weight", "values"), [((4, 3), (4,)), ((4, 2), (4, 3)), ((4, 3), (4, 1))])
def test_shapes_that_do_not_fit(weight, values):
    with pytest.raises(
        ValueError, match=r"`sample_weight` has shape \(4, .\), .*: pass one for each example"
    ):
        fitted(tf.ones(weight), tf.ones(values))
    with pytest.raises(ValueError, match=r"The mask .* outputs have has shape .*: use a loss or metric that"):
        fitted(tf.ones(weight, tf.bool), tf.ones(values))


def test_columns_keep_the_mask():
    y, predictions, mask = np.ones(3), tf.ones(3), tf.constant([True, False, True])
    predictions._keras_mask = mask
    columns = as_columns(tf.constant(y), predictions)
    assert [column.shape for column in columns] == [(3, 1), (3, 1)]
    assert columns[1]._keras_mask is mask
    for given in ((tf.ones((3, 1)), predictions), ({"a": tf.ones(3)}, predictions)):
        assert as_columns(*given) == given


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["mse", "binary_crossentropy", "poisson"])
def test_numbers_of_a_sequence_are_weighed_one_by_one(name, masked, column):
    """Keras gives one loss for each sequence, which such weights and masks do not fit."""
    y, predictions, weight = np.random.RandomState(0).uniform(0.1, 0.9, (3, 4, 4)).astype("float32")
    values = getattr(keras.losses, keras.losses.get(name).__name__)(
        y[..., None], predictions[..., None]
    ).numpy()
    outputs = tf.constant(predictions[..., None] if column else predictions)
    mask = weight > 0.5 if masked else np.ones((4, 4))
    if masked:
        outputs._keras_mask = tf.constant(mask)
    given = tf.constant(y), outputs, tf.constant(weight), tf.constant(4.0)
    found = loss_value(resolve_loss(name), *given)
    assert float(found.value) == pytest.approx((values * weight * mask).sum() / mask.sum(), rel=1e-5)
    total, count = resolve_metrics([name])[0](*given)
    assert float(total / count) == pytest.approx(np.average(values, weights=weight * mask), rel=1e-5)


def test_weights_of_classes_are_no_weights_of_numbers():
    y, weight = tf.eye(3), tf.ones((3, 3))
    with pytest.raises(
        ValueError, match=r"`sample_weight` has shape \(3, 3\), .* have \(3,\): pass one for each"
    ):
        loss_value(resolve_loss("categorical_crossentropy"), y, y, weight, tf.constant(3.0))
