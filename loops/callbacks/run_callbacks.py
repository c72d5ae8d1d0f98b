"""A run's callbacks, called so that what one of them raises tells whose it is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from ..support.errors import add_note, call_each
from .steps_callback import StepsCallback


class RunCallbacks(keras.callbacks.CallbackList):
    """Calls callbacks as Keras does. In what one raises, a note names it, its hook, and how far the run was.

    All of them are called on the thread that trains, one after another, also those that Keras would call on
    another one (`async_safe`).
    """

    callbacks: list[keras.callbacks.Callback]

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback] = (), **options: Any) -> None:
        self.when: Callable[[], str] = lambda: "before the first epoch"  # says how far the run is
        self.begun: list[keras.callbacks.Callback] = []  # those whose `on_train_begin` has run
        super().__init__(list(callbacks), **options)  # calls `set_model` and `set_params`

    @property
    def of_steps(self) -> list[StepsCallback]:
        return [callback for callback in self.callbacks if isinstance(callback, StepsCallback)]

    def call(self, callback: keras.callbacks.Callback, hook: str, *arguments: Any, **named: Any) -> Any:
        """Calls one hook of one callback."""
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
        super().set_model(model)  # what else it does
        self.callbacks = callbacks
        for callback in callbacks if model is not None else ():
            self.call(callback, "set_model", model)

    def _tell(self, hook: str, logs: dict[str, float] | None = None) -> None:
        logs = _for_all(logs)
        for callback in self.callbacks:
            self.call(callback, hook, logs)

    def _tell_of_epoch(self, hook: str, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = _for_all(logs)
        for callback in self.callbacks:
            self.call(callback, hook, epoch, logs)

    def _tell_of_batch(self, hook: str, batch: int, logs: dict[str, float] | None = None) -> None:
        logs = _for_all(logs)
        for callback in self.callbacks:
            self.call(callback, hook, batch, logs=logs)

    on_test_begin = functools.partialmethod(_tell, "on_test_begin")
    on_test_end = functools.partialmethod(_tell, "on_test_end")
    on_epoch_begin = functools.partialmethod(_tell_of_epoch, "on_epoch_begin")
    on_epoch_end = functools.partialmethod(_tell_of_epoch, "on_epoch_end")
    on_train_batch_begin = functools.partialmethod(_tell_of_batch, "on_train_batch_begin")
    on_train_batch_end = functools.partialmethod(_tell_of_batch, "on_train_batch_end")
    on_test_batch_begin = functools.partialmethod(_tell_of_batch, "on_test_batch_begin")
    on_test_batch_end = functools.partialmethod(_tell_of_batch, "on_test_batch_end")

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        logs = _for_all(logs)
        for callback in self.callbacks:
            self.call(callback, "on_train_begin", logs)
            self.begun.append(callback)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Ends all of them: of one after another, an error would leave the others out."""
        logs = _for_all(logs)
        call_each(functools.partial(self.call, each, "on_train_end", logs) for each in self.callbacks)

    def on_test_steps_end(self, done: int, total: int | None) -> None:
        """Tells each `StepsCallback`."""
        for callback in self.of_steps:
            self.call(callback, "on_test_steps_end", done, total)


def _for_all(logs: dict[str, float] | None) -> dict[str, float]:
    """The logs in the order in which Keras gives them, to one callback after another, which may add some."""
    return dict(sorted((logs or {}).items()))
