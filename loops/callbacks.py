"""Keras callbacks in a loop that runs many steps a call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from .step import TrainStep

_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
_TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")


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


def wants_every_step(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has a hook that must run between any two training steps."""
    return _overrides(callback, _BATCH_HOOKS)


def wants_every_test_step(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback has a hook that must run between any two evaluation steps."""
    return _overrides(callback, _TEST_HOOKS)


def _overrides(callback: keras.callbacks.Callback, hooks: Sequence[str]) -> bool:
    base = keras.callbacks.Callback
    for saver in (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore):
        if isinstance(callback, saver) and callback.save_freq == "epoch":
            base = saver  # its own batch hooks look at `save_freq` and do nothing
    for hook in hooks:
        own = getattr(callback, hook)
        if getattr(own, "__func__", own) is not getattr(base, hook):
            return True
    return False


def keep_raw_weights(callbacks: keras.callbacks.CallbackList) -> None:
    """Has no `SwapEMAWeights` throw the weights away for their averages in the last epoch.

    `fit` wants that, since it sets the weights to the averages afterwards; `train` swaps back before it does.
    A run that is to go on needs both.
    """
    for callback in callbacks.callbacks:
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            callback.set_params({**callback.params, "epochs": 0})  # none is the last


def swap_in(callbacks: keras.callbacks.CallbackList) -> None:
    """Has each `SwapEMAWeights` between epochs believe what is so between epochs: weights are averages."""
    for callback in callbacks.callbacks:
        if isinstance(callback, keras.callbacks.SwapEMAWeights) and callback.swap_on_epoch:
            callback.on_test_begin()


def swap_back(callbacks: keras.callbacks.CallbackList) -> None:
    """Ends the swap of weights and averages that a `SwapEMAWeights` may be in the middle of.

    It expects the last of all epochs or the end of an evaluation; a run that is stopped before comes to
    neither, and the weights would be taken for their averages.
    """
    for callback in callbacks.callbacks:
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            callback.on_test_end()


@contextlib.contextmanager
def bound_optimizer(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Makes `model.optimizer` the one that trains while callbacks run, then puts back what was there.

    Callbacks that turn the learning rate look for it there; without it they fail, and on a compiled model
    they would turn the rate of an optimizer that does nothing.
    """
    missing = object()
    before = getattr(model, "optimizer", missing)
    model.optimizer = optimizer
    try:
        yield
    finally:
        if before is missing:
            del model.optimizer
        else:
            model.optimizer = before
