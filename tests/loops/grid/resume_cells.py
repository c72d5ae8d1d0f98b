"""The cells of the grid that resume a run from a checkpoint, on another number of devices."""

from __future__ import annotations

import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

from .harness import DIGITS, K, X, Y, cell, dense, same


class StopAfter7(loops.StepsCallback):
    def steps_allowed(self, done):
        return 7 - done if done < 7 else None

    def on_train_steps_end(self, first, values):
        if first - 1 + len(values["loss"]) == 7:
            raise InterruptedError


def run_with_checkpoints(strategy, folder, *callbacks):
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else tf.name_scope(""):
        entropy = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="entropy")
        optimizer = K.SGD(0.1, momentum=0.9)
        step = loops.TrainStep(dense(), DIGITS, optimizer, metrics=["accuracy", entropy], accumulate=2)
    checkpoint = loops.Checkpoint(folder, every_steps=5, verbose=0)
    history = loops.train(step, loops.Batches(X, Y, 16), epochs=4, callbacks=callbacks, checkpoint=checkpoint)
    values = {f"logged {name}": np.array(value) for name, value in history.history.items()}
    return {name: variable.numpy() for name, variable in step.state().items()} | values


@cell
def a_run_that_was_cut(strategy):
    if not isinstance(strategy, tf.distribute.MirroredStrategy):
        return  # here each worker has a folder of its own; see `test_workers.py`
    with tempfile.TemporaryDirectory() as folder:
        straight = run_with_checkpoints(None, f"{folder}/straight")
        for first, others in ((strategy, {"same": strategy, "fewer": None}), (None, {"more": strategy})):
            try:
                run_with_checkpoints(first, f"{folder}/cut", StopAfter7())
            except InterruptedError:
                for name, then in others.items():
                    shutil.copytree(f"{folder}/cut", f"{folder}/{name}")
                    same(straight, run_with_checkpoints(then, f"{folder}/{name}"), least=0.1)
            else:
                raise AssertionError("not cut")
            shutil.rmtree(f"{folder}/cut")
