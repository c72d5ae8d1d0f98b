"""Keras callbacks in a loop that runs many steps a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from ..step.train_step import TrainStep


class StepsCallback(keras.callbacks.Callback):
    """A Keras callback that takes the values of many steps at a time.

    A callback with a batch hook makes `train` return to Python after every step, which is what makes it
    exact and what costs time. One that only reads values derives from this class and has them all, later
    by a fraction of a second. One that remembers something may have methods `state()` and `set_state(state)`
    for a `Checkpoint`, as any Keras callback may: what JSON can hold, given back before `on_train_begin`.

    Attributes:
        train_step: the `TrainStep` that trains, from `train`; None before.
    """

    train_step: TrainStep | None = None

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
        """Called after `on_epoch_begin` where a checkpoint has the epoch go on in its middle.

        Args:
            batches: of the epoch that ran before.
        """

    def on_train_steps_end(self, first: int, values: dict[str, np.ndarray[Any, Any]]) -> None:
        """Called after each call of the device.

        Args:
            first: number of the first of these steps in all of the step's training, from 1: batches are
                counted, those of skipped steps and of updates still to be made included.
            values: name -> float32 array, (steps,): each step's own loss and metrics.
        """
