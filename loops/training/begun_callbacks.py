"""What callbacks may have changed by the time they have begun."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from ..callbacks.steps_callback import StepsCallback
from ..checkpoint.checkpoint import Checkpoint

# What of callbacks runs between a resume and the first epoch, and whose methods of these change no variable.
_BEGINNING = ("set_data", "set_train_step", "watch", "on_train_begin")
_CHANGE_NOTHING = {
    getattr(kind, hook)
    for kind in (keras.callbacks.Callback, keras.callbacks.History, StepsCallback, Checkpoint)
    for hook in _BEGINNING
    if hasattr(kind, hook)
}


def may_have_changed_variables(callbacks: Iterable[keras.callbacks.Callback]) -> bool:
    """Whether code of callbacks that could have changed variables has run between a resume and now."""
    return any(
        isinstance(callback, keras.callbacks.SwapEMAWeights)  # by `swap_averages_in`
        or getattr(getattr(callback, hook), "__func__", None) not in _CHANGE_NOTHING
        for callback in callbacks
        for hook in _BEGINNING
        if hasattr(callback, hook)
    )
