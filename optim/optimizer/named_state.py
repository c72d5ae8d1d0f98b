"""An optimizer's state by name: for Keras' files and for `tf.train.Checkpoint`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TypeAlias
from urllib.parse import quote, unquote

import keras
import numpy as np
import tensorflow as tf

from ..common.messages import first_few
from ..common.types import Array

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Restore: TypeAlias = Callable[[dict[str, int], Shapes], None]
# What Keras hands to `save_own_variables`: a group of an HDF5 file, arrays by name.
Store: TypeAlias = MutableMapping[str, Array]


class StateError(ValueError):
    """A checkpoint whose optimizer state is of another model or another plan.

    The message says what does not fit, and the optimizer is as it was. `GroupedOptimizer.partial_load` loads
    what fits.

    Example:
        >>> import tempfile
        >>> def optimizer_of(classes):
        ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(classes, name="head")])
        ...     optimizer = GroupedOptimizer(keras.optimizers.Adam(), partition(model, {"head": "head"}))
        ...     optimizer.build(model.trainable_variables)
        ...     return optimizer
        >>> path = tf.train.Checkpoint(optimizer=optimizer_of(2)).write(tempfile.mkdtemp() + "/saved")
        >>> checkpoint = tf.train.Checkpoint(optimizer=optimizer_of(5))
        >>> try:
        ...     status = checkpoint.read(path)
        ... except StateError as error:
        ...     print(error)
        the checkpoint's optimizer state is of another model or another plan: ... of another shape (...
    """


def check_state(saved: Shapes, wanted: Shapes) -> None:
    """Raises StateError unless a checkpoint has the names and shapes of the optimizer that loads it."""
    missing = [name for name in wanted if name not in saved]
    extra = [name for name in saved if name not in wanted]
    other = [
        f"{name} {saved[name]} for {shape}"
        for name, shape in wanted.items()
        if name in saved and tuple(saved[name]) != tuple(shape)
    ]
    problems = {"missing from it": missing, "not in this plan": extra, "of another shape": other}
    found = [f"{len(names)} {what} ({first_few(names)})" for what, names in problems.items() if names]
    if found:
        raise StateError(
            "the checkpoint's optimizer state is of another model or another plan: "
            f"{'; '.join(found)}. The optimizer is as it was; to load what fits, load within "
            "`with optimizer.partial_load():`"
        )


def assign_all(variables: Mapping[str, keras.Variable], values: Sequence[Array]) -> None:
    """Assigns values in the variables' order, all or none.

    Raises:
        StateError: another number of values, or other shapes.
    """
    problems = [
        f"has shape {value.shape} for {name!r}, whose shape is {tuple(variable.shape)}"
        for (name, variable), value in zip(variables.items(), values)
        if value.shape != tuple(variable.shape)
    ]
    if len(values) != len(variables):
        problems.insert(0, f"holds {len(values)} arrays for {len(variables)} variables")
    if problems:
        raise StateError(
            f"`weights` {problems[0]}: it is of another model or another plan. Pass the values of "
            "`optimizer.variables`"
        )
    for variable, value in zip(variables.values(), values):
        variable.assign(value)


def write_store(store: Store, arrays: Mapping[str, Array]) -> None:
    """Fills the store of a Keras file. Names hold slashes, which would make folders of them."""
    for name, array in arrays.items():
        store[quote(name, safe="")] = array


def read_store(store: Store) -> dict[str, Array]:
    """Returns what `write_store` has written."""
    return {unquote(key): np.asarray(store[key]) for key in store.keys()}


class TrackedState(tf.Module):
    """What `tf.train.Checkpoint` sees: variables under their names, and a check before they are read.

    The update counts are saved beside them. `restore` is called with the counts and shapes that a checkpoint
    holds, and raises if they do not fit.
    """

    def __init__(
        self, variables: Mapping[str, keras.Variable], counts: Callable[[], dict[str, int]], restore: Restore
    ) -> None:
        super().__init__()
        # These attributes' names are in every checkpoint.
        self.state = {name: variable.value for name, variable in variables.items()}
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        self.numbers = _CountsAndShapes(counts, shapes, restore)


class _CountsAndShapes(tf.train.experimental.PythonState):
    """Counts and shapes as JSON. TensorFlow restores such a state before any variable."""

    def __init__(self, counts: Callable[[], dict[str, int]], shapes: Shapes, restore: Restore) -> None:
        self._counts, self._shapes, self._restore = counts, shapes, restore

    def serialize(self) -> str:
        return json.dumps({"updates": self._counts(), "shapes": self._shapes})

    def deserialize(self, string_value: str) -> None:
        saved = json.loads(string_value)
        shapes = {name: tuple(shape) for name, shape in saved["shapes"].items()}
        self._restore(saved["updates"], shapes)
