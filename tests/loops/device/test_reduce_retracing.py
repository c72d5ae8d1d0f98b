"""One function for many shapes of its arguments."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.device.reduce_retracing import reduce_retracing


def counting(function):
    traces = []

    def traced(*args, **kwargs):
        traces.append([tuple(v.shape) for v in args if tf.is_tensor(v)])
        return function(*args, **kwargs)

    return reduce_retracing(traced), traces


def test_lengths_and_sizes_of_batches_are_few_traces():
    step, traces = counting(lambda x, scale=1.0: {"sum": tf.reduce_sum(x) * scale})
    for size in (2, 3, 4, 5):
        assert float(step(np.ones((size, 2), "float32"), scale=2.0)["sum"]) == size * 4
    assert traces == [[(2, 2)], [(None, 2)]]
    for length in (3, 4, 5):  # before a dimension is opened, the shape is tried as it is
        assert float(step(tf.ones((2, length)), scale=2.0)["sum"]) == length * 4
    assert traces[2:] == [[(2, 3)], [(None, None)]]


def test_a_function_that_asks_for_sizes_is_traced_for_each():
    step, traces = counting(lambda x: tf.zeros([x.shape[0]]) + x)
    for size in (2, 3, 4, 3):
        assert step(tf.ones([size])).shape == (size,)
    assert [shape for (shape,) in traces] == [(2,), (None,), (3,), (4,)]


def test_what_is_no_tensor_is_a_constant():
    step, traces = counting(lambda x, *rest: x * rest[0] if rest and rest[0] else x)
    for rest in [(2.0,), (2.0,), (3.0,), (None,), ("",), ()]:
        step(tf.constant(3.0), *rest)
    assert len(traces) == 5
    variable = tf.Variable(2.0)
    read = reduce_retracing(lambda v, _: v + 1.0)
    assert float(read(variable, {})) == 3.0
    variable.assign(5.0)
    assert float(read(variable, {})) == 6.0


def test_composite_tensors_and_nests():
    step = reduce_retracing(lambda pair, ragged: (pair["a"], ragged.values, None))
    found = step({"a": np.float32(2.0), "b": (1, "x")}, ragged=tf.ragged.constant([[1], [2, 3]]))
    assert float(found[0]) == 2.0 and found[1].numpy().tolist() == [1, 2, 3] and found[2] is None


def test_shapes_that_do_not_fit_are_told():
    step = reduce_retracing(lambda x: tf.ensure_shape(x, [None, 2]))
    step(tf.ones([1, 2]))
    with pytest.raises(ValueError, match="Dimension 1 in both shapes must be equal"):
        step(tf.ones([1, 3]))


def test_within_another_function_it_is_a_part_of_that():
    step, traces = counting(lambda x: x + 1.0)
    assert float(tf.function(step)(tf.constant(1.0))) == 2.0 and len(traces) == 1
