"""Calls the callbacks of a run; an error from one names the callback and its hook."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from ..support.errors import add_note, call_each
from .steps_callback import StepsCallback


class RunCallbacks(keras.callbacks.CallbackList):
    """Calls callbacks as Keras does, and adds a note to errors: which callback, hook and epoch.

    All are called on the thread that trains, one after another, even those that Keras would call on another
    thread (`async_safe`).
    """

    callbacks: list[keras.callbacks.Callback]

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback] = (), **options: Any) -> None:
        self.when: Callable[[], str] = lambda: "before the first epoch"  # the time in the run, in words
        self.begun: list[keras.callbacks.Callback] = []  # those whose `on_train_begin` has run
        super().__init__(list(callbacks), **options)  # calls `set_model` and `set_params`

    @property
    def steps_callbacks(self) -> list[StepsCallback]:
        return [callback for callback in self.callbacks if isinstance(callback, StepsCallback)]

    def call(self, callback: keras.callbacks.Callback, hook: str, *arguments: Any, **named: Any) -> Any:
        """Calls a hook of one callback."""
        try:
            return getattr(callback, hook)(*arguments, **named)
        except Exception as error:  # a callback may raise anything; it is raised again
            name = type(callback).__name__
            add_note(error, f"The callback {name} raised this in its `{hook}`, {self.when()}.")
            raise

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params
        for callback in self.callbacks:
            self.call(callback, "set_params", params)

    def set_model(self, model: keras.Model | None) -> None:
        callbacks, self.callbacks = self.callbacks, []
        super().set_model(model)  # without the callbacks, which are called below
        self.callbacks = callbacks
        for callback in callbacks if model is not None else ():
            self.call(callback, "set_model", model)

    def _call_all(self, hook: str, logs: dict[str, float] | None = None) -> None:
        logs = _sorted_logs(logs)
        for callback in self.callbacks:
            self.call(callback, hook, logs)

    def _call_all_of_epoch(self, hook: str, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = _sorted_logs(logs)
        for callback in self.callbacks:
            self.call(callback, hook, epoch, logs)

    def _call_all_of_batch(self, hook: str, batch: int, logs: dict[str, float] | None = None) -> None:
        logs = _sorted_logs(logs)
        for callback in self.callbacks:
            self.call(callback, hook, batch, logs=logs)

    on_test_begin = functools.partialmethod(_call_all, "on_test_begin")
    on_test_end = functools.partialmethod(_call_all, "on_test_end")
    on_epoch_begin = functools.partialmethod(_call_all_of_epoch, "on_epoch_begin")
    on_epoch_end = functools.partialmethod(_call_all_of_epoch, "on_epoch_end")
    on_train_batch_begin = functools.partialmethod(_call_all_of_batch, "on_train_batch_begin")
    on_train_batch_end = functools.partialmethod(_call_all_of_batch, "on_train_batch_end")
    on_test_batch_begin = functools.partialmethod(_call_all_of_batch, "on_test_batch_begin")
    on_test_batch_end = functools.partialmethod(_call_all_of_batch, "on_test_batch_end")

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        logs = _sorted_logs(logs)
        for callback in self.callbacks:
            self.call(callback, "on_train_begin", logs)
            self.begun.append(callback)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Calls all of them even if one raises."""
        logs = _sorted_logs(logs)
        call_each(functools.partial(self.call, each, "on_train_end", logs) for each in self.callbacks)

    def on_test_steps_end(self, done: int, total: int | None) -> None:
        """Calls this hook of each `StepsCallback`."""
        for callback in self.steps_callbacks:
            self.call(callback, "on_test_steps_end", done, total)


def _sorted_logs(logs: dict[str, float] | None) -> dict[str, float]:
    """The logs sorted by name, as Keras passes them; all callbacks get the same dict and may add to it."""
    return dict(sorted((logs or {}).items()))
