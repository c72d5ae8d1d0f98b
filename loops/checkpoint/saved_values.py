"""Numbers, text and other values of a dict that a checkpoint saves: they have no variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.messages import short_repr
from ...optim.common.types import Array, Json
from ..data.batches import Batches, BatchIterator
from ..step.named_model import Pairs
from ..step.train_step import TrainStep
from ..update.update import Update
from .callback_state import check_json
from .saved_parts import Names, Part
from .tensor_file import as_json

_HOLDS = (
    "it holds an `Update`, a `TrainStep`, Keras models, layers, optimizers, metrics and seed generators, "
    "variables, `tf.random.Generator`s, numbers, text, None, NumPy arrays, lists and dicts of such values, "
    "and what has a method `state()` that returns variables by name"
)


# What is saved by itself, and not within a value.
_OBJECTS = (
    *(keras.Variable, tf.Variable, keras.random.SeedGenerator, tf.random.Generator),
    *(keras.layers.Layer, keras.metrics.Metric, keras.optimizers.Optimizer, Update, TrainStep),
)


class ValuePart(Part):
    """A number, text, None, a list or dict of them, or an array: what is restored into the dict itself."""

    kind = "value"

    def __init__(self, key: str, value: Any) -> None:
        super().__init__(key, value)
        try:
            self._check(value, self.where)
        except RecursionError:
            raise TypeError(
                f"{self.where}a list or dict that holds itself, or is too deep to save."
            ) from None

    def pairs(self, names: Names) -> Pairs:
        return []

    @property
    def array(self) -> Array | None:
        """The array or NumPy number that it is; None for what JSON holds."""
        return np.asarray(self.value) if isinstance(self.value, (np.ndarray, np.generic)) else None

    def metadata(self, names: Names) -> Json:
        if self.array is not None:
            return {"array": isinstance(self.value, np.ndarray)}
        return {
            "json": json.loads(as_json(self.value))
        }  # a copy, as the value may change until it is written

    def restored(self, metadata: Mapping[str, Any], array: tf.Tensor | None) -> Any:
        """The value of which `metadata` and `array` tell."""
        if array is None:
            return metadata["json"]
        value = array.numpy()  # of bfloat16 a number where it has no axes, as TensorFlow gives it
        return np.array(value) if metadata["array"] else value

    def _check(self, value: object, where: str, within: str = "") -> None:
        """Raises TypeError for what would not come back as it was."""
        if isinstance(value, (np.ndarray, np.generic)) and not isinstance(value, np.ma.MaskedArray):
            if not _is_number(value.dtype) or within and np.iscomplexobj(value):
                raise TypeError(
                    f"{where}an array of {value.dtype}{within}, which no checkpoint holds: save numbers, and "
                    "text as a list."
                )
            if not within or isinstance(value, np.generic):
                return
        if value is None or type(value) in (bool, int, float, str):
            return
        if type(value) is list:
            for part in value:
                self._check(part, where, " in a list")
        elif type(value) is dict:
            for key, part in value.items():
                if type(key) is not str:
                    raise TypeError(
                        f"{where}a dict with the key {short_repr(key)}, which JSON would turn into text: "
                        "make it text."
                    )
                self._check(part, where, " in a dict")
        else:
            what = f"{short_repr(value)} of {type(value).__name__}{within}"
            raise TypeError(f"{where}{what}, which no checkpoint holds: {_way_out(value)}.")


class OwnPart(Part):
    """An object of one's own with `state()`, which returns what JSON holds, and `set_state(state)`."""

    kind = "object with `set_state`"

    def __init__(self, key: str, value: Any) -> None:
        super().__init__(key, value)
        state = value.state()
        check_json(state, f"{self.where}a {type(value).__name__}")
        self._state: Json = json.loads(as_json(state))

    def pairs(self, names: Names) -> Pairs:
        return []

    def metadata(self, names: Names) -> Json:
        return self._state

    def restore(self, metadata: Any) -> None:
        self.value.set_state(metadata)


def _is_number(dtype: np.dtype[Any]) -> bool:
    try:
        kind = tf.as_dtype(dtype)
    except TypeError:
        return False
    return kind.is_bool or kind.is_integer or kind.is_floating or kind.is_complex


def _way_out(value: object) -> str:
    if isinstance(value, tuple):
        return "JSON would give a list back; make it one"
    if isinstance(value, _OBJECTS):
        return "give it a key of its own in the dict"
    if tf.is_tensor(value):
        return "save its `.numpy()`"
    if isinstance(value, np.ma.MaskedArray):
        return "save its `.data` and its `.mask`"
    if isinstance(value, np.ndarray):
        return "give it a key of its own in the dict, or save its `.tolist()`"
    if isinstance(value, np.random.Generator):
        return "save its `.bit_generator.state`, and set that after `restore`"
    if isinstance(value, (Batches, BatchIterator, tf.data.Dataset, tf.data.Iterator)):
        return "pass one iterator, `iter(data)`, as `iterator`, and to `restore` its data as `data`"
    return _HOLDS
