"""Running sums of gradients: their mean comes on time, and nothing is left of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.gradients.accumulator import GradientAccumulator


def made(every, *shapes):
    sums = [tf.Variable(tf.zeros(shape)) for shape in shapes]
    return GradientAccumulator(every, sums, tf.Variable(0, dtype=tf.int64))


@pytest.mark.parametrize("traced", [False, True])
def test_the_mean_of_every_third_call(traced):
    accumulator, seen = made(3, [2], []), tf.Variable([0.0, 0.0, 0.0])

    def add(dense, scalar):
        accumulator.add([dense, scalar], lambda means: seen.assign_add(tf.concat([means[0], [means[1]]], 0)))

    run = tf.function(add, autograph=False) if traced else add
    for number in range(1, 6):
        run(tf.constant([number, 2.0 * number]), tf.constant(3.0))
        np.testing.assert_array_equal(seen, [0, 0, 0] if number < 3 else [2, 4, 3])
    run(tf.constant([0.0, 0.0]), tf.constant(0.0))
    np.testing.assert_array_equal(seen, [2 + 3, 4 + 6, 3 + 2])


def test_sparse_gradients_and_other_dtypes_are_added():
    accumulator = made(2, [3, 1])
    rows = tf.IndexedSlices(tf.constant([[1.0], [2.0]], tf.float16), tf.constant([2, 2]), tf.constant([3, 1]))
    accumulator.add([rows], None)
    np.testing.assert_array_equal(accumulator.sums[0], [[0], [0], [3]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_calls_that_count_differently(dtype):
    gradients, weights = [1000.0, 3000.0, 5000.0], [64.0, 64.0, 16.0]  # their products pass float16's largest
    accumulator, means = GradientAccumulator.over([keras.Variable([0.0], dtype=dtype)], 3), []
    for number, weight in zip(gradients, weights):
        accumulator.add([tf.constant([number], dtype)], means.extend, weight=tf.constant(weight))
    np.testing.assert_allclose(np.concatenate(means), np.average([gradients], 1, weights), rtol=1e-6)
    assert not any(variable.numpy().any() for variable in [*accumulator.sums, accumulator.weight])


def test_calls_that_count_nothing():
    accumulator, means = GradientAccumulator.over([keras.Variable([0.0])], 2), []
    for _ in range(2):
        accumulator.add([tf.constant([1.0])], means.extend, weight=tf.constant(0.0))
    np.testing.assert_array_equal(means, [[0.0]])


@pytest.mark.parametrize("traced", [False, True])
def test_the_largest_of_every_second_call(traced):
    sums = [tf.Variable([0.0]), tf.Variable([0.0])]
    accumulator = GradientAccumulator(2, sums, tf.Variable(0, dtype=tf.int64), largest=[True, False])
    seen = tf.Variable([0.0, 0.0])

    def add(gradient):
        accumulator.add([gradient, gradient], lambda found: seen.assign(tf.concat(found, 0)))

    run = tf.function(add, autograph=False) if traced else add
    for first, second, expected in ((-4.0, -2.0, [-2, -3]), (5.0, 1.0, [5, 3]), (-1.0, -3.0, [-1, -2])):
        run(tf.constant([first]))
        run(tf.constant([second]))
        np.testing.assert_array_equal(seen, expected)


def test_some_of_the_sums():
    accumulator, means = made(2, [1], [1]), []
    accumulator.add([tf.constant([1.0])], means.extend, positions=[0])
    accumulator.add([tf.constant([4.0])], means.extend, positions=[1])
    np.testing.assert_array_equal(means, [[2.0]])
    # Those of the other one are gone too.
    assert not any(total.numpy().any() for total in accumulator.sums)


def test_reset():
    accumulator = made(2, [1])
    accumulator.add([tf.constant([1.0])], None)
    accumulator.reset()
    assert [float(total[0]) for total in accumulator.sums] == [0.0] and int(accumulator.calls) == 0
