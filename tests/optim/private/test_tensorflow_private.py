"""Fails when TensorFlow moves something that `tensorflow_private` leans on."""

import numpy as np
import tensorflow as tf

from gradloop.optim.private.tensorflow_private import inside_xla, node_lists, scratch


def read(handle):
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)


def test_scratch_starts_as_its_value_each_time():
    def doubled(value):
        handle = scratch(value)
        tf.raw_ops.AssignAddVariableOp(resource=handle, value=value)
        return read(handle)

    np.testing.assert_array_equal(doubled(tf.constant([1.0, 2.0])), [2, 4])
    traced = tf.function(doubled)
    for _ in range(2):
        np.testing.assert_array_equal(traced(tf.constant([1.0, 2.0])), [2, 4])


def test_two_scratches_are_two():
    @tf.function
    def both():
        one, other = scratch(tf.constant(1.0)), scratch(tf.constant(1.0))
        tf.raw_ops.AssignVariableOp(resource=one, value=tf.constant(5.0))
        return read(one), read(other)

    assert [float(value) for value in both()] == [5.0, 1.0]


def test_scratch_in_a_branch_and_in_a_loop():
    @tf.function(autograph=False)
    def run(times):
        def body(step, total):
            added = tf.cond(step > 0, lambda: read(scratch(tf.constant(2.0))), lambda: tf.constant(0.0))
            return step + 1, total + added

        return tf.while_loop(lambda step, _: step < times, body, [0, 0.0])[1]

    assert float(run(tf.constant(5))) == 8.0


def test_nodes_of_a_graph_and_of_its_functions():
    inner = tf.function(tf.nn.softplus, input_signature=[tf.TensorSpec((), tf.float32)])
    graph = tf.function(lambda x: tf.exp(inner(x))).get_concrete_function(tf.TensorSpec((), tf.float32)).graph
    own, called = ({node.op for node in nodes} for nodes in node_lists(graph.as_graph_def()))
    assert "Exp" in own - called and "Softplus" in called - own


def test_inside_xla():
    seen = []

    def note(x):
        seen.append(inside_xla())
        return x

    note(tf.constant(1.0))
    tf.function(note)(tf.constant(1.0))
    tf.function(note, jit_compile=True)(tf.constant(1.0))

    @tf.function(jit_compile=True)
    def around(x):
        return tf.cond(x > 0, lambda: tf.function(note)(x), lambda: x)

    around(tf.constant(1.0))
    assert seen == [False, False, True, True]
