"""A run of 12 steps in 3 epochs, saved after each third step; it is killed once the given step is done.

python killed.py FOLDER [STEP]
"""

import os
import signal
import sys

import keras
import numpy as np

from gradloop import loops
from gradloop.loops.tensorboard_log import event_files

event_files._FLUSH_SECONDS = 1e9  # so that what is on the disk is what was flushed on purpose


class Kill(loops.StepsCallback):
    def steps_allowed(self, done):
        return 1

    def on_train_steps_end(self, first, values):
        if first == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)


folder = sys.argv[1]
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1, momentum=0.9))
data = loops.Batches(np.random.rand(16, 3), np.random.rand(16, 2), 4)
loops.train(
    step,
    data,
    epochs=3,
    validation=data,
    callbacks=[loops.TensorBoard(f"{folder}/logs"), *([Kill()] if sys.argv[2:] else [])],
    checkpoint=loops.Checkpoint(f"{folder}/checkpoint", every_steps=3),
)
