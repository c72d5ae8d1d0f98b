"""A run that sends itself a signal in one of its phases."""

from __future__ import annotations

import signal
import threading
import time
from unittest import mock

from gradloop import loops
from gradloop.loops.checkpoint.store import CheckpointStore
from tests.loops.training.resumed_runs import Everything

PHASES = ("first trace", "step", "validation", "saving", "epoch's end")
_AT = 2  # the epoch, from 0, of all phases but the first


class Sender(loops.StepsCallback):
    """Sends signals to this process, so many seconds after a phase of the run has begun.

    The phase lasts longer then, so that some come within it and some after.
    """

    def __init__(self, phase: str | None, seconds: float = 0.0, numbers: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.phase, self.seconds, self.numbers = phase, seconds, numbers
        self.epoch = -1

    def begins(self, phase: str) -> None:
        if phase != self.phase or self.epoch != (0 if phase == "first trace" else _AT) or not self.numbers:
            return
        numbers, self.numbers = self.numbers, ()
        if self.seconds:
            threading.Timer(self.seconds, self.send, numbers).start()
            time.sleep(self.seconds / 2)
        else:
            self.send(*numbers)

    def send(self, *numbers: int) -> None:
        for number in numbers:
            # To the main thread: another one that gets it may not run for a while on a busy machine.
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, number)
            time.sleep(0.02 * (len(numbers) - 1))  # those of one moment are one

    def steps_allowed(self, done: int) -> int:
        return 2

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_steps_end(self, first, values):
        self.begins("step")

    def on_test_steps_end(self, done, total):
        self.begins("validation")

    def on_epoch_end(self, epoch, logs=None):
        self.begins("epoch's end")


class Sent(Everything):
    """A run with validation, checkpoints within epochs, and most of what may go on otherwise."""

    validates = True

    def train(self, step, sender, *more, folder=None):
        """Trains with a `Sender`; without a folder no checkpoint is written."""
        saves, calls = CheckpointStore.save, step.model.call

        def save(*arguments, **named):
            sender.begins("saving")
            return saves(*arguments, **named)

        def call(*arguments, **named):
            sender.begins("first trace")
            return calls(*arguments, **named)

        checkpoint = None if folder is None else loops.Checkpoint(folder, every_steps=4, verbose=0)
        with mock.patch.object(CheckpointStore, "save", save), mock.patch.object(step.model, "call", call):
            return super().train(step, sender, *more, checkpoint=checkpoint)
