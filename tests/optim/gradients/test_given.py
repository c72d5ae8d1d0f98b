"""Gradients as callers give them: arrays become tensors, new values pass by what is for gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.gradients.given import as_gradient, but_new_values, reduce_over_replicas

WEIGHT = keras.Variable([1.0, 2.0], dtype="float32")


@pytest.mark.parametrize(
    "given",
    [np.array([3, 4]), np.array([3.0, 4.0]), [3.0, 4], (3, 4), tf.Variable([3.0, 4.0]), tf.constant([3, 4])],
)
def test_what_has_no_float_dtype_takes_the_variables_dtype(given):
    found = as_gradient("gradients", "w", WEIGHT, given)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, [3, 4])


def test_tensors_are_passed_on():
    dense, rows = tf.constant([3.0, 4.0], tf.float16), tf.IndexedSlices(
        tf.ones(1), tf.constant([1]), tf.constant([2])
    )
    assert as_gradient("gradients", "w", WEIGHT, dense).dtype == tf.float16
    assert as_gradient("gradients", "w", WEIGHT, rows) is rows


@pytest.mark.parametrize(
    "given",
    ["ab", ["a", "b"], object(), {0: 1.0}, np.array([1j, 2j]), tf.ragged.constant([[1.0], [2.0, 3.0]])],
    ids=["text", "texts", "object", "dict", "complex", "ragged"],
)
def test_what_is_no_array_of_numbers_is_refused(given):
    with pytest.raises(
        TypeError, match="`grads` has .* for 'w', which is no array of real numbers: give what"
    ):
        as_gradient("grads", "w", WEIGHT, given)


def test_another_shape_is_refused():
    with pytest.raises(
        ValueError, match=r"`grads` has shape \(3,\) for 'w', whose shape is \(2,\): give each"
    ):
        as_gradient("grads", "w", WEIGHT, [1.0, 2.0, 3.0])


def test_new_values_are_left_out():
    scale, weight = keras.Variable(1.0), keras.Variable(1.0)
    scale.overwrite_with_gradient = True
    double = lambda given: [2 * gradient for gradient in given]  # noqa: E731
    assert but_new_values(double, [1, 2, 3], [weight, scale, weight]) == [2, 2, 6]
    assert but_new_values(double, [1, 2], [weight, weight]) == [2, 4]
    # With one replica there is nothing to reduce.
    assert reduce_over_replicas([1, 2], [weight, scale], [3]) == [1, 2, 3]
