"""An optimizer's settings, and a copy of it that has them.

Keras has no way to copy an optimizer but `get_config`, which leaves out what a user's own class does not
return there. What is no setting is named here; `tests/optim/private/test_optimizer_copies.py` tries it on the
oldest and the newest Keras.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .keras_private import is_book_keeping, raw_learning_rate

# What Keras keeps among an optimizer's attributes for itself: answers, and what `build` fills.
_NO_SETTING = {
    "_all_reduce_sum_gradients",  # see `takes_sums`
    "_get_current_learning_rate",  # see `takes_rate`
    "_exclude_from_weight_decay_cache",
    "_trainable_variables_indices",
    "_tracker",
    "_variables",
    "built",
}


def fresh_copy(
    optimizer: keras.optimizers.Optimizer,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | Callable[[], tf.Tensor],
) -> keras.optimizers.Optimizer:
    """An optimizer of the same class and settings, not built, with a learning rate of its own.

    Neither the class's constructor nor its `get_config` is asked, as both may leave settings out: what the
    constructor has set is taken over as it is (lists, arrays, functions). Variables that it has made are made
    anew, and optimizers inside are copied.
    """
    copy = object.__new__(type(optimizer))
    keras.optimizers.Optimizer.__init__(copy, learning_rate, name=optimizer.name)
    own = {name for name in vars(copy) if name.startswith("_")}
    for name, value in settings_of(optimizer).items():
        parts = keras.tree.flatten(value)
        if name in own or (optimizer.built and any(isinstance(part, keras.Variable) for part in parts)):
            continue  # `build` makes the state of a built one again
        if any(map(_is_state, parts)) or any(getattr(part, "__self__", None) is optimizer for part in parts):
            value = keras.tree.map_structure(lambda part: _copied(part, optimizer, copy), value)
        setattr(copy, name, value)
    return copy


def settings_of(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """An optimizer's attributes, without what Keras and TensorFlow keep there for themselves."""
    kept = vars(optimizer).items()
    return {name: v for name, v in kept if name not in _NO_SETTING and not is_book_keeping(name)}


def lost_settings(optimizer: keras.optimizers.Optimizer) -> list[str]:
    """The attributes of a user's optimizer that one which is made from its `get_config` does not have.

    `(its constructor)` if none can be made.
    """
    if type(optimizer).__module__.startswith("keras."):
        return []
    try:
        again = type(optimizer).from_config(optimizer.get_config())
    except Exception:  # whatever a constructor makes of arguments that it does not know
        return ["(its constructor)"]
    kept = settings_of(again)
    return [name for name, value in settings_of(optimizer).items() if not _alike(value, kept.get(name))]


def _alike(one: Any, other: Any) -> bool:
    """Whether two settings are the same, as far as one can tell; objects of which one cannot are."""
    parts, others = keras.tree.flatten(one), keras.tree.flatten(other)
    if len(parts) != len(others):
        return False
    for part, counterpart in zip(parts, others):
        if callable(part):
            part, counterpart = (getattr(f, "__code__", type(f)) for f in (part, counterpart))
        if isinstance(part, np.ndarray):
            same = np.array_equal(part, counterpart)
        elif isinstance(part, (bool, int, float, str, bytes, type(None), types.CodeType)):
            same = part == counterpart
        else:
            same = True
        if not same:
            return False
    return True


def _is_state(part: Any) -> bool:
    return isinstance(part, (keras.Variable, keras.optimizers.Optimizer))


def _copied(part: Any, optimizer: keras.optimizers.Optimizer, copy: keras.optimizers.Optimizer) -> Any:
    """A leaf of an attribute of `optimizer` as `copy` is to have it."""
    if isinstance(part, keras.optimizers.Optimizer):
        return fresh_copy(part, raw_learning_rate(part))
    if isinstance(part, keras.Variable):
        kind = {"dtype": part.dtype, "trainable": part.trainable, "aggregation": part.aggregation}
        return keras.Variable(part.numpy(), name=part.name, **kind)
    if getattr(part, "__self__", None) is optimizer:  # one of its methods
        return part.__func__.__get__(copy)
    return part
