"""Clipping as Keras' optimizers do it, and what they cannot: some gradients not counted, two dtypes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.gradients.clipping import clip_as_set, clip_by_global_norm


@pytest.mark.parametrize("setting", [{"clipnorm": 1.0}, {"clipvalue": 0.5}, {"global_clipnorm": 1.0}, {}])
def test_clipped_as_keras_clips(setting):
    gradients = [tf.constant([3.0, 4.0]), tf.constant([0.1])]
    optimizer = keras.optimizers.SGD(1.0, **setting)
    variables = [keras.Variable(tf.zeros_like(gradient)) for gradient in gradients]
    optimizer.apply(gradients, variables)
    for found, variable in zip(clip_as_set(optimizer, gradients), variables):
        np.testing.assert_allclose(found, -variable.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "later",
    [{"clipvalue": 0.5, "global_clipnorm": 1.0}, {"clipvalue": 0.5, "clipnorm": 2.0}, {"clipnorm": -1.0}],
)
def test_settings_that_exclude_each_other_count_as_in_keras(later):
    """Its constructor refuses two, an attribute that is set later does not."""
    gradients, optimizer = [tf.constant([3.0, 4.0])], keras.optimizers.SGD(1.0)
    for name, value in later.items():
        setattr(optimizer, name, value)
    variable = keras.Variable([0.0, 0.0])
    optimizer.apply(gradients, [variable])
    np.testing.assert_allclose(clip_as_set(optimizer, gradients)[0], -variable.numpy(), rtol=1e-6)


@pytest.mark.parametrize("limit", [0.05, 1.0, 100.0])
def test_the_global_norm_is_tensorflows_to_the_last_bit(limit):
    random = np.random.RandomState(0)
    gradients = [tf.constant(random.standard_normal(shape), tf.float32) for shape in [(5, 7), (3,), (64, 10)]]
    expected, _ = tf.clip_by_global_norm(gradients, limit)
    for found, wanted in zip(clip_by_global_norm(gradients, limit), expected):
        np.testing.assert_array_equal(found, wanted)


def test_what_does_not_count_is_scaled_and_not_in_the_norm():
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    gradients = [tf.constant([3.0, 4.0]), tf.constant([100.0])]
    found = clip_as_set(optimizer, gradients, [tf.constant(True), tf.constant(False)])
    np.testing.assert_allclose(found[0], [0.6, 0.8], rtol=1e-6)


def test_a_sparse_gradient_counts_by_its_rows():
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    rows = tf.IndexedSlices(tf.constant([[3.0, 0.0], [0.0, 0.0]]), tf.constant([5, 1]), tf.constant([9, 2]))
    sparse, dense = clip_as_set(optimizer, [rows, tf.constant([4.0])])
    assert sparse.indices.numpy().tolist() == [5, 1]
    np.testing.assert_allclose(sparse.values, [[0.6, 0], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(dense, [0.8], rtol=1e-6)


def test_gradients_of_two_dtypes_have_one_norm():
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    found = clip_as_set(optimizer, [tf.constant([3.0]), tf.constant([4.0], tf.float64)])
    assert [gradient.dtype for gradient in found] == [tf.float32, tf.float64]
    np.testing.assert_allclose([float(gradient[0]) for gradient in found], [0.6, 0.8], rtol=1e-6)


def test_a_norm_that_is_not_finite_shows_in_all():
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    for bad in (np.nan, np.inf):
        found = clip_as_set(optimizer, [tf.constant([3.0]), tf.constant([bad])])
        assert all(np.isnan(gradient).all() for gradient in found)
