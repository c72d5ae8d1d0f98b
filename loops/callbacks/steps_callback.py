"""Keras callbacks in a loop that runs many steps a call."""

from __future__ import annotations

import keras

from ...optim.common.types import Array
from ..data.batches import Data
from ..step.train_step import TrainStep
from ..step.watch import Measured, Watch


class StepsCallback(keras.callbacks.Callback):
    """A Keras callback that takes the values of many steps at a time.

    A callback with a batch hook makes `train` return to Python after every step, which costs time. One that
    only reads values can derive from this class, and gets all of them a fraction of a second later. To be
    saved in a `Checkpoint` it may have, as any Keras callback may, a method `state()` that returns what JSON
    can hold, and `set_state(state)`, which is called with that before `on_train_begin`. Where an epoch
    resumes in its middle, its `on_epoch_begin` is called once more after that.

    Attributes:
        train_step: the `TrainStep` that trains, from `train`; None before.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> class LargestLoss(loops.StepsCallback):
        ...     largest = 0.0
        ...     def on_train_steps_end(self, first, values):  # of one or more steps
        ...         self.largest = max(self.largest, float(values["loss"].max()))
        ...     def state(self):  # saved in a `Checkpoint`
        ...         return {"largest": self.largest}
        ...     def set_state(self, state):
        ...         self.largest = state["largest"]
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
        >>> step = loops.TrainStep(model, "mse", "sgd")
        >>> data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        >>> callback = LargestLoss()
        >>> _ = loops.train(step, data, epochs=3, callbacks=[callback])
        >>> callback.largest  # the loss of the first step
        9.0
    """

    train_step: TrainStep | None = None

    def set_data(self, data: Data, validation: Data | None) -> None:
        """Called by `train` before training begins, with what it trains and validates on.

        To read either moves a shuffle on: `loops/data/unmoved.py` reads it so that the run does not notice.
        """

    def set_train_step(self, step: TrainStep) -> None:
        """Called by `train` before training begins, as Keras calls `set_model`."""
        self.train_step = step

    def steps_allowed(self, done: int) -> int | None:
        """How many steps may run before `on_train_steps_end` is called next; None for any number.

        Args:
            done: batches in all of the step's training so far.
        """
        return None

    def on_epoch_resumed(self, batches: int) -> None:
        """Called after `on_epoch_begin` of an epoch that resumes in its middle.

        Args:
            batches: how many of the epoch's ran before the checkpoint.
        """

    def on_train_steps_end(self, first: int, values: dict[str, Array]) -> None:
        """Called after each call of the device.

        Args:
            first: number of the first of these steps in all of the step's training, from 1. Every batch
                counts, whether its step was skipped or its gradients still wait for an update.
            values: name -> float32 array, (steps,): each step's own loss and metrics, and what `loops.record`
                was given, NaN for a step that recorded none.
        """

    def on_train_failed(self, logs: dict[str, float] | None = None) -> None:
        """Called instead of `on_train_end` after a run that an error ends."""
        self.on_train_end(logs)

    def watch(self) -> Watch | None:
        """What to measure of the training step; `train` asks when training begins. None for nothing."""
        return None

    def on_test_steps_end(self, done: int, total: int | None) -> None:
        """Called after each call of the device within an evaluation, between Keras' hooks around that.

        Args:
            done: how many of its batches ran.
            total: of how many; None where that is not known.
        """

    def on_measured(self, number: int, measured: Measured) -> None:
        """Called for each step that was watched, after `on_train_steps_end` of its call.

        Args:
            number: of the step in all of the step's training, from 1.
            measured: what `watch` asks for.
        """


def batches_trained(step: TrainStep, first_epoch: int = 0, steps: int | None = None) -> int:
    """The batches in all of a step's training before a run.

    An optimizer that was restored has made updates of which the step does not know: more than the step has
    run batches. Each is taken for `accumulate` batches, though one at the end of the data may be fewer. If
    the run's first epoch is not 0, the step's own count is not used, but that of so many epochs of `steps`
    batches, if known.
    """
    updates = int(step.optimizer.iterations.numpy())
    ran = first_epoch * (steps or 0) if first_epoch else int(step.batches_done.numpy())
    return ran if updates <= ran else updates * step.accumulate
