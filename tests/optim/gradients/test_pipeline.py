"""The order of what happens to gradients."""

import numpy as np
import tensorflow as tf

from gradloop.optim.gradients.pipeline import GradientPipeline


def test_the_stages_in_order():
    calls = []

    def stage(name, result=None):
        def run(gradients, *rest):
            calls.append((name, [float(tf.reduce_sum(gradient)) for gradient in gradients]))
            if rest:
                rest[0]([gradient + 1 for gradient in gradients])
                return name
            return [gradient * 2 for gradient in gradients]

        return run

    stages = {name: stage(name) for name in ("unscale", "check", "accumulate", "clip", "apply")}
    assert GradientPipeline(**stages)([tf.constant([5.0])]) == "check"
    expected = {"unscale": [5.0], "check": [10.0], "accumulate": [11.0], "clip": [12.0], "apply": [24.0]}
    assert calls == list(expected.items())


def test_stages_that_are_left_out():
    applied = []
    assert GradientPipeline(applied.extend)([tf.constant([5.0])]) is None
    np.testing.assert_array_equal(applied, [[5.0]])


def test_what_the_check_or_the_accumulation_holds_back_is_not_applied():
    for held in ({"check": lambda gradients, use: False}, {"accumulate": lambda gradients, use: None}):
        applied = []
        GradientPipeline(applied.extend, **held)([tf.constant([5.0])])
        assert applied == []


def test_a_limit_sees_the_sum_of_rows_that_repeat():
    rows = tf.IndexedSlices(tf.constant([[1.0], [2.0], [4.0]]), tf.constant([1, 0, 1]), tf.constant([2, 1]))
    applied = []
    for repeat in (True, False):
        GradientPipeline(applied.extend, rows_repeat=repeat)([rows])
    once, as_passed = applied
    np.testing.assert_array_equal(once.values, [[5.0], [2.0]])
    assert as_passed is rows
