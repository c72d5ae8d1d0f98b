"""What callbacks remember of a run, to be kept in a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from .state_file import OWN, StateFile

# Keras' own have no method for it; these are all that their hooks write and later ones read.
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
            if _has_state(callback):
                states[name] = callback.state()
            for attributes in _attributes(callback):
                states[name] = {attribute: getattr(callback, attribute) for attribute in attributes}
                weights = getattr(callback, "best_weights", None)
                states[name]["best_weights"] = None if weights is None else len(weights)
                arrays |= {_array(name, number): weight for number, weight in enumerate(weights or ())}
        return states, arrays

    def before_begin(self, file: StateFile) -> None:
        """Gives callbacks with `set_state` their states, before `on_train_begin`."""
        for name, callback in self._named():
            state = self._states(file).get(name)
            if state is not None and _has_state(callback):
                callback.set_state(state)

    def after_begin(self, file: StateFile) -> None:
        """Gives Keras' own theirs, once `on_train_begin` has set them to their beginnings."""
        for name, callback in self._named():
            state = self._states(file).get(name)
            if state is None:
                continue
            for attributes in _attributes(callback):
                for attribute in attributes:
                    setattr(callback, attribute, state[attribute])
                if state["best_weights"] is not None:
                    callback.best_weights = [
                        file.read(_array(name, number)) for number in range(state["best_weights"])
                    ]

    @staticmethod
    def _states(file: StateFile) -> dict[str, Any]:
        states: dict[str, Any] = file.note["run"]["callbacks"]
        return states

    def _named(self) -> Iterator[tuple[str, Any]]:
        seen: Counter[str] = Counter()
        for callback in self._callbacks:
            kind = type(callback).__name__
            yield f"{kind}/{seen[kind]}", callback
            seen[kind] += 1


def _has_state(callback: keras.callbacks.Callback) -> bool:
    return all(callable(getattr(callback, name, None)) for name in ("state", "set_state"))


def _attributes(callback: keras.callbacks.Callback) -> list[tuple[str, ...]]:
    return [attributes for kind, attributes in _STOCK.items() if isinstance(callback, kind)]


def _array(name: str, number: int) -> str:
    return f"{OWN}callbacks/{name}/best_weights/{number}"
