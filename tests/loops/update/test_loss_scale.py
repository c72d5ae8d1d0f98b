"""The loss scale moves as in Keras' LossScaleOptimizer."""

import keras
import numpy as np
import tensorflow as tf

from gradloop.loops.update.loss_scale import LossScale


def scaler(variables, **settings):
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0), **settings)
    optimizer.build(variables)
    return optimizer


def test_moves_as_keras_moves_it():
    variable = keras.Variable(tf.ones(1))
    finite = [True, True, True, False, True, True, True, True, True, False, False, True]
    settings = {"initial_scale": 1024.0, "dynamic_growth_steps": 3}
    theirs, ours = scaler([variable], **settings), scaler([variable], **settings)
    scale = LossScale(ours)
    for step in finite:
        theirs.apply([tf.constant([1.0 if step else np.inf])], [variable])
        scale.grow() if step else scale.halve()
        assert float(ours.dynamic_scale.numpy()) == float(theirs.dynamic_scale.numpy())
        assert int(ours.step_counter.numpy()) == int(theirs.step_counter.numpy())


def test_a_fixed_scale_alone_and_within_a_moving_one():
    fixed, moving = keras.optimizers.SGD(0.0), scaler([keras.Variable(tf.ones(1))], initial_scale=8.0)
    for optimizer, expected in ((fixed, 4.0), (moving, 32.0)):
        scale = LossScale(optimizer)
        scale._inner.loss_scale_factor = 4.0
        assert float(scale.scaled(tf.constant(1.0))) == expected
        np.testing.assert_array_equal(scale.unscaled([tf.constant([expected], tf.float16)])[0], [1.0])
        # What Keras divides once more.
        np.testing.assert_array_equal(scale.rescaled([tf.constant([1.0])], [])[0], [4.0])


def test_gradients_are_unscaled_in_float32():
    # As a float16 number the scale is infinite and the result zero.
    scale = LossScale(scaler([keras.Variable(tf.ones(1))], initial_scale=65536.0))
    slices = tf.IndexedSlices(tf.constant([[2.0]], tf.float16), tf.constant([3]), tf.constant([5, 1]))
    dense, sparse = scale.unscaled([tf.constant([1.0], tf.float16), slices])
    assert dense.dtype == tf.float32
    np.testing.assert_array_equal(dense, [2.0**-16])
    np.testing.assert_array_equal(sparse.values, [[2.0**-15]])
    np.testing.assert_array_equal(sparse.indices, [3])
    assert float(scale.scaled(tf.constant(0.5))) == 32768.0
