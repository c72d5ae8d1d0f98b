"""What Keras' own callbacks expect of the loop around them: batch hooks, an optimizer, averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    pass


_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


_TEST_HOOKS = ("on_test_batch_begin", "on_test_batch_end")


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
