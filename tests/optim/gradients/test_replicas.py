"""What replicas do together, on the one device where there are none; the grid has the rest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.gradients.replicas import (
    add_one,
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


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
@pytest.mark.parametrize("times, options", [(1, {}), (2, {"gradient_accumulation_steps": 2})])
def test_apply_sums_clips_gradients_of_two_dtypes_by_their_common_norm(half, times, options):
    """Keras cannot join them; exact numbers: the norm of 3, 4 and 12 is 13, of which 6.5 is a half."""
    one, other = keras.Variable([8.0, 8.0], dtype=half), keras.Variable([8.0], dtype="float32")
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=6.5, **options)
    optimizer.build([one, other])
    # A loss scale leaves gradients of float32 for variables of half precision.
    for dtype in [half, "float32"][:times]:
        apply_sums(optimizer, [tf.constant([3.0, 4.0], dtype), tf.constant([12.0])], [one, other])
    np.testing.assert_array_equal(one.numpy().astype("float32"), [6.5, 6.0])
    np.testing.assert_array_equal(other, [2.0])


def test_on_each_device_in_a_scope():
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        variable = keras.Variable(1.0)
        on_each_device(variable, lambda v, value: v.assign_add(value), (tf.constant(2.0),))
    assert float(variable.numpy()) == 3.0


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_add_one(dtype):
    counter = keras.Variable(3, dtype=dtype, trainable=False)
    add_one(counter)
    tf.function(lambda: add_one(counter))()
    assert counter.numpy() == 5
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        counter = keras.Variable(3, dtype=dtype, trainable=False)
        add_one(counter)  # as it stands around all replicas
        tf.function(lambda: strategy.run(lambda: add_one(counter)))()
    assert counter.numpy() == 5
