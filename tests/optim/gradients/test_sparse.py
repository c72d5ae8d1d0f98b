"""Sparse gradients whose rows repeat."""

import numpy as np
import tensorflow as tf

from gradloop.optim.gradients.sparse import times, without_repeats

SHAPE = tf.constant([4, 2])


def gradient(rows=(3, 1, 3, 3)):
    values = np.arange(2.0 * len(rows), dtype="float32").reshape(-1, 2)
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows), SHAPE)


def test_each_row_once_with_its_sum():
    once = without_repeats(gradient())
    np.testing.assert_array_equal(once.indices, [3, 1])
    np.testing.assert_array_equal(once.values, [[0 + 4 + 6, 1 + 5 + 7], [2, 3]])
    np.testing.assert_array_equal(tf.convert_to_tensor(once), tf.convert_to_tensor(gradient()))


def test_of_unknown_length_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def dense(rows):
        values = tf.ones([tf.size(rows), 2])
        return tf.convert_to_tensor(without_repeats(tf.IndexedSlices(values, rows, SHAPE)))

    np.testing.assert_array_equal(dense(tf.constant([0, 0, 2])), [[2, 2], [0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(dense(tf.zeros([0], tf.int32)), np.zeros((4, 2)))


def test_a_dense_gradient_is_left_alone():
    dense = tf.constant([1.0])
    assert without_repeats(dense) is dense


def test_times_a_number():
    np.testing.assert_array_equal(times(tf.constant([1.0, 2.0]), 3.0), [3, 6])
    scaled = times(gradient(), tf.constant(2.0))
    assert isinstance(scaled, tf.IndexedSlices)
    np.testing.assert_array_equal(tf.convert_to_tensor(scaled), 2 * tf.convert_to_tensor(gradient()))
