"""`StepsCallback`: Keras callbacks for a loop that runs many steps in one call on the device."""

from __future__ import annotations

import keras

from ...optim.common.types import Array
from ..data.batches import Data
from ..step.train_step import TrainStep
from ..step.watch import Measured, Watch


class StepsCallback(keras.callbacks.Callback):
    """A Keras callback that gets the values of many steps at a time.

    A callback with a batch hook makes `train` return to Python after every step, which costs time. A callback
    that only reads values can derive from this class instead, and gets all of them a fraction of a second
    later. To be saved in a `Checkpoint`, it may have, as any Keras callback may, a method `state()` that
    returns JSON values, and `set_state(state)`, which is called with them before `on_train_begin`. If an
    epoch resumes in its middle, its `on_epoch_begin` is called again after that.

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
        """Called by `train` before training begins, with the training and the validation data.

        Reading either of them advances its shuffle; `loops/data/without_side_effects.py` reads without that.
        """

    def set_train_step(self, step: TrainStep) -> None:
        """Called by `train` before training begins, as Keras calls `set_model`."""
        self.train_step = step

    def steps_allowed(self, done: int) -> int | None:
        """How many steps may run before the next `on_train_steps_end`; None for any number.

        Args:
            done: batches so far in all of the step's training.
        """
        return None

    def on_epoch_resumed(self, batches: int) -> None:
        """Called after `on_epoch_begin` of an epoch that resumes in its middle.

        Args:
            batches: how many batches of the epoch ran before the checkpoint.
        """

    def on_train_steps_end(self, first: int, values: dict[str, Array]) -> None:
        """Called after each call on the device.

        Args:
            first: number of the first of these steps in all of the step's training, from 1. Every batch
                counts, also if its step was skipped or its gradients still wait for an update.
            values: name -> float32 array, (steps,): the loss and metrics of each step, and the values given
                to `loops.record`; NaN for a step that did not record it.
        """

    def on_train_failed(self, logs: dict[str, float] | None = None) -> None:
        """Called instead of `on_train_end` after a run that an error ends."""
        self.on_train_end(logs)

    def watch(self) -> Watch | None:
        """What to measure in training steps, None for nothing; `train` calls it when training begins."""
        return None

    def on_test_steps_end(self, done: int, total: int | None) -> None:
        """Called after each call on the device in an evaluation, after `on_test_begin`, before `on_test_end`.

        Args:
            done: how many batches of the evaluation have run.
            total: the number of all its batches; None if it is not known.
        """

    def on_measured(self, number: int, measured: Measured) -> None:
        """Called for each watched step, after `on_train_steps_end` of its call.

        Args:
            number: number of the step in all of the step's training, from 1.
            measured: the measurements that `watch` asks for.
        """


def batches_trained(step: TrainStep, first_epoch: int = 0, steps: int | None = None) -> int:
    """How many batches a step had trained on before a run.

    A restored optimizer may count more updates than the step has run batches; then each update counts as
    `accumulate` batches (though one at the end of the data may be of fewer). If the first epoch of the run is
    not 0, its number times `steps`, the batches in an epoch if known, is used in place of the step's count.
    """
    updates = int(step.optimizer.iterations.numpy())
    ran = first_epoch * (steps or 0) if first_epoch else int(step.batches_done.numpy())
    return ran if updates <= ran else updates * step.accumulate
