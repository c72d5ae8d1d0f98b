"""Saves twice in a folder, keeping one."""

import sys

import tensorflow as tf

from gradloop.loops.checkpoint.directory import CheckpointFolder
from gradloop.loops.checkpoint.retention import Latest
from gradloop.loops.checkpoint.whole import write_checkpoint

folder = CheckpointFolder(sys.argv[1])
for _ in range(2):
    place = folder.make_next()
    tf.train.Checkpoint(iterator=iter(tf.data.Dataset.range(3))).write(f"{place}/iterator")
    write_checkpoint(place, {}, {})
    folder.remove_all_but([Latest(1)])
