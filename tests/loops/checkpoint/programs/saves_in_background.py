"""Saves, in parts, and ends while a thread writes."""

import sys

import tensorflow as tf

from gradloop import loops
from gradloop.loops.checkpoint import tensor_file


class Weights:
    def state(self):
        return {str(number): tf.Variable(tf.fill([1000], float(number))) for number in range(4)}


tensor_file.PART = 1000
loops.Checkpoint(sys.argv[1]).save({"weights": Weights()}, background=True)
