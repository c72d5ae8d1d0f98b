"""Weights and masks that fit what they weigh, and those that do not."""

import numpy as np
import pytest
import tensorflow as tf

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
