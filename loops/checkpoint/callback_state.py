"""What callbacks remember of a run, to be kept in a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from .tensor_file import OWN, TensorFile

# Keras' own have no method for it; these attributes are public, and all that counts from epoch to epoch.
_STOCK: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
    keras.callbacks.ModelCheckpoint: ("best",),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}


class CallbackStates:
    """The states of those callbacks that have one.

    These are callbacks with a method `state()`, which returns what JSON can hold, and `set_state(state)`,
    which takes that before `on_train_begin`; and of Keras' own `EarlyStopping`, the best weights included,
    `ReduceLROnPlateau` and `ModelCheckpoint`. They are known again by their class and, of several of one
    class, by their order.

    Args:
        callbacks: those of a run.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        self._callbacks = list(callbacks)

    def gather(self) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
        """Returns the states by name, and the arrays that belong to them by theirs."""
        states: dict[str, Any] = {}
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for name, callback in self._named():
            own = {"own": callback.state()} if _has_state(callback) else {}
            stock = {attribute: getattr(callback, attribute) for attribute in _attributes(callback)}
            if own or stock:
                states[name] = own | {"stock": stock}
            weights = getattr(callback, "best_weights", None) if stock else None
            arrays |= {_array(name, number): weight for number, weight in enumerate(weights or ())}
        return states, arrays

    def before_begin(self, file: TensorFile) -> None:
        """Gives callbacks with `set_state` their states, before `on_train_begin`."""
        for name, callback in self._named():
            state = file.note["run"]["callbacks"].get(name, {})
            if "own" in state and _has_state(callback):
                callback.set_state(state["own"])

    def after_begin(self, file: TensorFile) -> None:
        """Gives Keras' own theirs, once `on_train_begin` has set them to their beginnings."""
        for name, callback in self._named():
            stock = file.note["run"]["callbacks"].get(name, {}).get("stock", {})
            for attribute in _attributes(callback):
                if attribute in stock:
                    setattr(callback, attribute, stock[attribute])
            weights = list(_arrays(name, file))
            if weights:
                callback.best_weights = weights

    def _named(self) -> Iterator[tuple[str, Any]]:
        seen: Counter[str] = Counter()
        for callback in self._callbacks:
            kind = type(callback).__name__
            yield f"{kind}/{seen[kind]}", callback
            seen[kind] += 1


def _has_state(callback: keras.callbacks.Callback) -> bool:
    return all(callable(getattr(callback, name, None)) for name in ("state", "set_state"))


def _attributes(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for kind, names in _STOCK.items() if isinstance(callback, kind)), ())


def _array(name: str, number: int) -> str:
    return f"{OWN}callbacks/{name}/best_weights/{number}"


def _arrays(name: str, file: TensorFile) -> Iterator[np.ndarray[Any, Any]]:
    number = 0
    while _array(name, number) in file.values:
        yield file.values[_array(name, number)]
        number += 1
