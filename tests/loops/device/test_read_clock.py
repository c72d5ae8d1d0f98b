"""When a step ran, and how long it waited for its batch."""

import time

import numpy as np
import tensorflow as tf

from gradloop.loops.device.read_clock import ReadClock
from gradloop.loops.distribute.sharding import LazyBatch


def test_the_clock_of_a_step():
    clock = ReadClock()

    @tf.function
    def step(how):
        if how == "given":
            clock.given((tf.ones([3, 2]), tf.ones([3])))
        elif how == "arrays":
            clock.read(lambda: LazyBatch(tf.range(5), lambda indices: None))
        elif how == "replicas":
            clock.read(lambda: LazyBatch(tf.range(8), lambda indices: None, shard=tf.constant([7.0, 1.0])))
        else:
            clock.read(
                lambda: {"x": tf.py_function(lambda: time.sleep(0.02) or np.ones((6, 2)), [], tf.float64)}
            )

    found = {}
    for how in ("given", "arrays", "replicas", "dataset"):
        before = time.time()
        step(how)
        found[how] = clock.time()
        assert before - 0.01 <= found[how].began <= found[how].ended <= time.time()
    assert [each.examples for each in found.values()] == [3, 5, 7, 6]
    assert np.isnan(found["given"].waited) and found["arrays"].waited == found["replicas"].waited == 0
    assert 0.02 <= found["dataset"].waited <= found["dataset"].ended - found["dataset"].began
