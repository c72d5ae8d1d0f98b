"""What callbacks remember of a run, saved in a checkpoint."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count, takewhile
from typing import Any

import keras

from ...optim.common.types import Array, Json
from ..distribute.cluster import is_chief
from .metadata import CallbackState
from .tensor_file import OWN, TensorFile, as_json

# Keras' own callbacks have no method that returns their state. These attributes are public, and are all that
# these callbacks carry from epoch to epoch.
_STOCK: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
    keras.callbacks.ModelCheckpoint: ("best",),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}


class CallbackStates:
    """The states of those callbacks that have one.

    These are callbacks with a method `state()`, which returns what JSON can hold, and `set_state(state)`,
    which is called with that before `on_train_begin`; and of Keras' own `EarlyStopping`, its best weights
    included, `ReduceLROnPlateau` and `ModelCheckpoint`. A state is found again by the callback's class and,
    if there are several of one class, by their order; one of Keras' that monitors something else begins anew.

    Args:
        callbacks: of a run.
        call: calls a method of a callback, by its name, with arguments.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        call: Callable[..., Any] = lambda callback, method, *given: getattr(callback, method)(*given),
    ) -> None:
        self._call = call
        seen: Counter[str] = Counter()
        self._callbacks: dict[str, keras.callbacks.Callback] = {}
        for callback in callbacks:
            kind = type(callback).__name__
            self._callbacks[f"{kind}/{seen[kind]}"] = callback
            seen[kind] += 1

    def gather(self) -> tuple[dict[str, CallbackState], dict[str, Array]]:
        """Returns the states by callback, and the arrays that belong to them by name in a `TensorFile`.

        Raises:
            TypeError: a `state()` that JSON cannot hold.
        """
        states: dict[str, CallbackState] = {}
        arrays: dict[str, Array] = {}
        for name, callback in self._callbacks.items():
            own: CallbackState = {"own": self._own_state(callback)} if has_state(callback) else {}
            stock = {attribute: getattr(callback, attribute) for attribute in _attributes(callback)}
            if own or stock:
                states[name] = {**own, "stock": stock}
            if stock:
                states[name]["monitor"] = callback.monitor
            weights = getattr(callback, "best_weights", None) if stock else None
            arrays |= {_weight(name, number): weight for number, weight in enumerate(weights or ())}
        return states, arrays

    def before_train_begin(self, file: TensorFile) -> None:
        """Restores callbacks with a `set_state`."""
        for name, callback in self._callbacks.items():
            state = file.metadata["run"]["callbacks"].get(name, {})
            if "own" in state and has_state(callback):
                self._call(callback, "set_state", state["own"])

    def after_train_begin(self, file: TensorFile) -> None:
        """Restores Keras' own, which `on_train_begin` resets, but for one that monitors something else."""
        for name, callback in self._callbacks.items():
            state = file.metadata["run"]["callbacks"].get(name, {})
            stock, now = state.get("stock", {}), getattr(callback, "monitor", None)
            if state.get("monitor", now) != now:  # an earlier version did not say
                if is_chief():
                    warnings.warn(
                        f"`callbacks` has a {type(callback).__name__} that monitors {now!r}, and in the "
                        f"checkpoint {file.path!r} one that monitors {state['monitor']!r}: it begins anew.",
                        stacklevel=2,
                    )
                continue
            for attribute in _attributes(callback):
                if attribute in stock:
                    setattr(callback, attribute, stock[attribute])
            names = takewhile(file.values.__contains__, (_weight(name, number) for number in count()))
            weights = [file.values[weight].numpy() for weight in names]
            if weights:
                callback.best_weights = weights

    def _own_state(self, callback: keras.callbacks.Callback) -> Json:
        state: Json = self._call(callback, "state")
        check_json(state, f"`callbacks` has a {type(callback).__name__}")
        return state


def has_state(value: object) -> bool:
    """Whether it has both methods; what is called so and takes other arguments is something else."""
    return has_method(value, "state") and has_method(value, "set_state", None)


def has_method(value: object, name: str, *arguments: object) -> bool:
    """Whether it has a method of that name which can be called with so many arguments."""
    try:
        inspect.signature(getattr(value, name)).bind(*arguments)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def check_json(state: object, where: str) -> None:
    """Raises TypeError, its message begun by `where`, if JSON cannot hold what a `state()` returned."""
    try:
        as_json(state)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{where} whose `state()` returns {state!r}, which JSON cannot hold ({error}): return numbers, "
            "text, lists, and dicts whose keys are text."
        ) from error


def _attributes(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for kind, names in _STOCK.items() if isinstance(callback, kind)), ())


def _weight(name: str, number: int) -> str:
    return f"{OWN}callbacks/{name}/best_weights/{number}"
