"""What replicas do together, on the one device where there are none; the grid has the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.clipping import clipped
from gradloop.optim.replicas import (
    apply_sums,
    in_replica,
    on_each_device,
    replica_count,
    sum_over_replicas,
    when,
)


def test_one_device():
    assert replica_count() == 1
    assert not in_replica()
    values = [tf.ones(2), tf.IndexedSlices(tf.ones((1, 2)), tf.constant([0]))]
    assert sum_over_replicas(values) == values


@pytest.mark.parametrize("condition, expected", [(True, 2.0), (False, -3.0)])
def test_when(condition, expected):
    variable = tf.Variable(0.0)

    @tf.function
    def run(flag):
        when(flag, variable.assign_add, tf.constant(2.0), otherwise=lambda two: variable.assign(two - 5.0))

    run(tf.constant(condition))
    assert float(variable) == expected


def test_when_without_otherwise():
    variable = tf.Variable(1.0)
    tf.function(lambda: when(tf.constant(False), variable.assign, tf.constant(2.0)))()
    assert float(variable) == 1.0


def test_apply_sums_is_apply():
    one, other = keras.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])
    gradient = tf.constant([3.0, 4.0])
    apply_sums(keras.optimizers.SGD(0.1, clipnorm=1.0), [gradient], [one])
    keras.optimizers.SGD(0.1, clipnorm=1.0).apply([gradient], [other])
    np.testing.assert_array_equal(one, other)


def test_on_each_device_in_a_scope():
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        variable = keras.Variable(1.0)
        on_each_device(variable, lambda v, value: v.assign_add(value), (tf.constant(2.0),))
    assert float(variable.numpy()) == 3.0


@pytest.mark.parametrize("setting", [{"clipnorm": 1.0}, {"clipvalue": 0.5}, {"global_clipnorm": 1.0}, {}])
def test_clipped_as_keras_clips(setting):
    gradients = [tf.constant([3.0, 4.0]), tf.constant([0.1])]
    optimizer = keras.optimizers.SGD(1.0, **setting)
    variables = [keras.Variable(tf.zeros_like(gradient)) for gradient in gradients]
    optimizer.apply(gradients, variables)
    for found, variable in zip(clipped(optimizer, gradients), variables):
        np.testing.assert_allclose(found, -variable.numpy(), rtol=1e-6)


def test_what_does_not_count_is_scaled_and_not_in_the_norm():
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    gradients = [tf.constant([3.0, 4.0]), tf.constant([100.0])]
    found = clipped(optimizer, gradients, [tf.constant(True), tf.constant(False)])
    np.testing.assert_allclose(found[0], [0.6, 0.8], rtol=1e-6)
