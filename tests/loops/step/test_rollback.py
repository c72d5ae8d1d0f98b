"""The copies of the state that a forward pass writes, for steps that fail."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.step.rollback import ForwardState
from gradloop.loops.support.record_writes import record_writes

X = np.full((2, 3), 4.0)


@pytest.mark.parametrize("traced", [False, True])
def test_copies_are_of_what_was_before_and_follow_each_step(traced):
    norm, metric = keras.layers.BatchNormalization(), keras.metrics.Mean()
    norm.build((None, 3))
    state = ForwardState()

    def step(batch):
        with record_writes(everything=True) as writes:
            metric.update_state(norm(batch, training=True))
        state.backup(writes, batch)

    step = tf.function(step, autograph=False) if traced else step
    before = []
    for _ in range(2):
        before = [v.numpy() for v in (*norm.weights, *metric.variables)]
        step(tf.constant(X))
    assert float(metric.count.numpy()) == 4.0
    state.restore()
    for variable, value in zip((*norm.weights, *metric.variables), before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_nothing_is_copied_of_a_pass_that_writes_nothing():
    dense, state = keras.layers.Dense(2), ForwardState()

    @tf.function(autograph=False)
    def step(batch):
        with record_writes(everything=True) as writes:
            outputs = dense(batch, training=True)
        state.backup(writes, batch)
        return outputs

    dense.build((None, 3))
    operations = step.get_concrete_function(tf.TensorSpec([None, 3])).graph.get_operations()
    assert not any("Assign" in operation.type for operation in operations)
