"""A disk that is full, or a folder that may not be written: a clear error, and what was saved stays whole."""

import errno
import os
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.checkpoint import manifest
from gradloop.loops.checkpoint.whole import read_whole

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FULL_IN_TENSORFLOW = tf.errors.ResourceExhaustedError(None, None, "No space left on device")
# What is called in the course of a save, and what it raises.
PLACES = {
    "folder": (tf.io.gfile, "mkdir", FULL_IN_TENSORFLOW),
    "mark": (tf.io.gfile, "GFile", FULL_IN_TENSORFLOW),
    "iterator": (tf.train.Checkpoint, "write", FULL_IN_TENSORFLOW),
    "values": (tf.raw_ops, "SaveV2", FULL_IN_TENSORFLOW),
    "sync": (os, "fsync", FULL),
    "manifest": (manifest, "write_atomically", FULL),
    "name": (os, "replace", FULL),
    "read-only": (tf.io.gfile, "mkdir", tf.errors.PermissionDeniedError(None, None, "Permission denied")),
    "gone bad": (os, "fsync", OSError(errno.EIO, os.strerror(errno.EIO))),
}


@pytest.fixture(scope="module")
def step():
    layers = [keras.Input((1,)), keras.layers.Dense(1, name="head")]
    return loops.TrainStep(keras.Sequential(layers), "mse", "sgd")


@pytest.mark.parametrize("place", PLACES)
def test_a_save_that_fails_harms_nothing(step, place, tmp_path, monkeypatch):
    where, name, error = PLACES[place]
    checkpoint, data = loops.Checkpoint(tmp_path, keep=1), tf.data.Dataset.range(3)
    whole = checkpoint.save(step, iter(data))
    before = sorted(os.listdir(tmp_path))

    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr(where, name, fails)
    reason = getattr(error, "message", None) or error.strerror
    with pytest.raises(OSError, match=f"{tmp_path}.*{reason}"):
        checkpoint.save(step, iter(data))
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == before and checkpoint.newest == whole
    read_whole(whole)
    assert checkpoint.save(step, iter(data)) == str(tmp_path / "checkpoint-2")


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.release
def test_a_disk_that_is_full(small_disk):
    layers = [keras.Input((100,)), keras.layers.Dense(300)]
    step = loops.TrainStep(keras.Sequential(layers), "mse", keras.optimizers.SGD(0.1, momentum=0.9))
    data = loops.Batches(np.ones((4, 100)), np.ones((4, 300)), 4)
    checkpoint = loops.Checkpoint(small_disk, keep=9, verbose=0)
    with pytest.raises(
        OSError, match=f"{small_disk}/checkpoint-5.* cannot be written: .*No space left on device"
    ):
        loops.train(step, data, epochs=9, checkpoint=checkpoint)
    assert sorted(os.listdir(small_disk)) == [f"checkpoint-{number}" for number in (1, 2, 3, 4)]
    for number in (1, 2, 3, 4):
        read_whole(str(small_disk / f"checkpoint-{number}"))
    # With room again, the run goes on from where it was saved last.
    checkpoint.keep = 1
    (small_disk / "checkpoint-1" / "manifest.json").unlink()
    history = loops.train(step, data, epochs=5, checkpoint=checkpoint)
    assert history.epoch == [0, 1, 2, 3, 4] and int(step.batches_done.numpy()) == 5
