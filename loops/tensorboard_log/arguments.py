"""The arguments of `TensorBoard`, checked before anything changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from ...optim import FilterLike
from ...optim.common.arguments import whole_number
from ...optim.common.messages import short_repr
from ...optim.common.types import Array, Scalar
from ...optim.filters.base import as_filter
from ..support.folders import absolute_path

# What the HParams tab can show.
HParam: TypeAlias = bool | int | float | str
_LARGEST = sys.float_info.max


def folder(name: str, value: object) -> str:
    """The argument of this name as a path that stays valid if the program changes its directory."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"`{name}` must be the path of a folder, got {short_repr(value)}")
    if not os.fspath(value):
        raise ValueError(f"`{name}` is {value!r}, which names no folder: '.' is the current directory")
    return absolute_path(value)


def filter_or_none(name: str, value: FilterLike | None, words: str = "") -> FilterLike | None:
    """The argument of this name; TypeError if it is neither a filter nor None."""
    if value is not None:
        try:
            as_filter(value)
        except TypeError as error:
            raise TypeError(
                f"`{name}` must be {words}a filter as `optim.select` takes it, or None, got "
                f"{short_repr(value)}"
            ) from error
    return value


def step_range(name: str, value: tuple[int, int] | None) -> tuple[int, int] | None:
    """The argument of this name as the numbers of the first and the last step, from 1."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(
            f"`{name}` must be a pair `(first, last)` of numbers of steps, or None, got {short_repr(value)}"
        )
    first = whole_number(f"{name}[0]", value[0], at_least=1)
    return first, whole_number(f"{name}[1]", value[1], at_least=first)


def hyperparameters(name: str, value: Mapping[str, HParam] | None) -> dict[str, HParam] | None:
    """The argument of this name as names and Python values that the tab HParams can show."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a dict of names and values, or None, got {short_repr(value)}")
    plain = {}
    for key, item in value.items():
        if isinstance(item, np.generic):  # by `str`, as float32 0.1 is 0.10000000149011612 as a Python float
            text, item = str(item), item.item()
            item = float(text) if isinstance(item, float) else item
        if not isinstance(key, str) or not key or not isinstance(item, (bool, int, float, str)):
            raise TypeError(
                f"`{name}` must map names to numbers, text, True or False, got {short_repr(key)}: "
                f"{short_repr(item)}; write it as text, `str(value)`"
            )
        if isinstance(item, (int, float)) and not abs(item) <= _LARGEST:
            item = short_repr(item)
            raise ValueError(f"`{name}` must map names to finite numbers, got {key!r}: {item}; or to a text")
        plain[key] = item if not isinstance(item, str) else item.encode(errors="backslashreplace").decode()
    if not plain:
        raise ValueError(f"`{name}` is an empty dict: name what differs between runs, or pass None")
    return plain


def columns(name: str, value: Mapping[str, float | Scalar | Array]) -> dict[str, Array]:
    """The argument of this name as tag -> values, (steps,); a number becomes the value of one step."""
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a dict of tags and numbers, got {short_repr(value)}")
    arrays: dict[str, Array] = {}
    for tag, item in value.items():
        if not isinstance(tag, str) or not tag:
            raise TypeError(
                f"`{name}` must map tags to numbers, got the tag {short_repr(tag)}: name it by a text"
            )
        if tf.is_tensor(item) and tf.is_symbolic_tensor(item):
            raise TypeError(
                f"`{name}` must map tags to numbers, got {tag!r} in a TensorFlow function, which is traced "
                "before there are any: return it, and write it after the call"
            )
        item = float(item) if isinstance(item, int) and abs(item) <= _LARGEST else item
        array = np.asarray(item.numpy() if hasattr(item, "numpy") else item)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise TypeError(f"`{name}` must map tags to numbers, got {tag!r}: {short_repr(item)}")
        arrays[tag] = array
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or any(len(shape) > 1 for shape in shapes):
        all_shapes = ", ".join(f"{tag!r} {array.shape}" for tag, array in arrays.items())
        raise ValueError(
            f"`{name}` must be all numbers, or all of shape (steps,) for consecutive steps, got the shapes "
            f"{all_shapes}: reduce the others, as `tf.reduce_mean` does, or write them by another call"
        )
    return {tag: np.atleast_1d(array) for tag, array in arrays.items()}
