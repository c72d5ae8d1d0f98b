"""Saves twice in a folder, keeping one, the second time a file of values in parts."""

import sys

import tensorflow as tf

from gradloop.loops.checkpoint import tensor_file
from gradloop.loops.checkpoint.directory import CheckpointFolder
from gradloop.loops.checkpoint.retention import Latest
from gradloop.loops.checkpoint.whole import write_checkpoint

folder = CheckpointFolder(sys.argv[1])
for part in (tensor_file.PART, 100):
    tensor_file.PART = part
    place = folder.make_next()
    tf.train.Checkpoint(iterator=iter(tf.data.Dataset.range(3))).write(f"{place}/iterator")
    write_checkpoint(place, {str(number): tf.fill([100], float(number)) for number in range(3)}, {})
    folder.remove_all_but([Latest(1)])
