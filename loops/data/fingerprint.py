"""Whether data are those of before: by kinds and shapes, a sample of their values, and the transform."""

from __future__ import annotations

import functools
import sys
import zlib
from collections.abc import Iterable
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from ...optim.common.types import Json, Tensors
from ..support.dataset_order import batch_sizes, own_seeds, process_seeds, tensors_of
from .arrays import tensors_in
from .batch_reader import Transform
from .batches import Batches, Data

# What is looked at of each array: so many examples at the same distances, of so many bytes together.
_EXAMPLES, _BYTES = 1000, 4_000_000

# Arrays do not change, so this is found once.
_found: WeakKeyDictionary[Data, dict[str, Any]] = WeakKeyDictionary()


def fingerprint_of(data: Data) -> dict[str, Any]:
    """What data tell of themselves beside the order of a `Batches`, as JSON; None for what they do not tell.

    Two with the same likeness may still differ: what the functions of a dataset do is not compared, nor what
    it reads from files, and of arrays it is a sample.
    """
    if data not in _found:
        _found[data] = _of_batches(data) if isinstance(data, Batches) else _of_dataset(data)
    return _found[data]


def _of_batches(data: Batches) -> dict[str, Json]:
    values = _sampled(tensors_in(data.arrays))
    return {"arrays": _kinds(data.arrays), "values": values, "transform": _function(data.reader.transform)}


def _of_dataset(data: tf.data.Dataset) -> dict[str, Json]:
    length, seeds = int(data.cardinality()), own_seeds(data)
    return {
        "arrays": _kinds(data.element_spec),
        "batches": length if length >= 0 else None,
        "batch_size": list(batch_sizes(data)),
        "seeds": None if seeds is None else list(seeds),
        "process_seeds": list(process_seeds(data)),
        "values": _sampled(tensors_of(data)),
    }


def _kinds(nest: Tensors) -> list[Json]:
    """Dtype and shape of an example of each array."""
    leaves = [leaf for leaf in tensors_in(nest) if hasattr(leaf, "dtype")]
    return [f"{leaf.dtype.name} {_example(leaf.shape)}" for leaf in leaves]


def _example(shape: tf.TensorShape) -> str:
    return "of any shape" if shape.rank is None else str(tuple(shape[1:]))


def _sampled(tensors: Iterable[tf.Tensor]) -> int:
    """A checksum of some examples of each tensor."""
    check = 0
    for tensor in tensors:
        if tensor.shape.rank and tensor.shape[0]:
            size = max(1, tensor.dtype.size * int(np.prod(tensor.shape[1:])))
            count = max(2, min(_EXAMPLES, _BYTES // size))
            places = np.linspace(0, tensor.shape[0] - 1, min(count, tensor.shape[0]))
            tensor = tf.gather(tensor, places.astype(np.int64))
        values = tensor.numpy()
        text = repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
        check = zlib.crc32(text, check)
    return check


def _function(transform: Transform | None) -> dict[str, Json]:
    """The name of a function and, under that of Python's version, which decides it, a checksum of its code.

    Numbers, text and arrays that it uses count too, and the code of functions, but not of those in turn.
    """
    inner: Any = transform
    uses: list[object] = []
    while isinstance(inner, functools.partial):
        uses += [inner.args, inner.keywords]
        inner = inner.func
    if inner is None:
        return {"name": None}
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    function: Any = inner if hasattr(inner, "__code__") else type(inner).__call__
    code = getattr(function, "__code__", None)
    if code is None:
        return {"name": name}
    uses += [function.__defaults__, function.__kwdefaults__, *_cells(function)]
    uses += [(one, function.__globals__[one]) for one in code.co_names if one in function.__globals__]
    text = _code(code) + repr([_plain(one) for one in uses])
    return {"name": name, "{}.{}".format(*sys.version_info): zlib.crc32(text.encode())}


def _cells(function: Any) -> list[object]:
    try:
        return [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # one that is empty
        return []


def _code(code: CodeType) -> str:
    constants = [_code(one) if isinstance(one, CodeType) else _plain(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _plain(value: object) -> object:
    """What has the same `repr` in each process of what is used."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return str(value.dtype), value.shape, zlib.crc32(value.tobytes())
    if isinstance(value, (set, frozenset)):
        return sorted(repr(_plain(one)) for one in value)
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return [(_plain(key), _plain(one)) for key, one in value.items()]
    code = getattr(value, "__code__", None)
    return type(value).__qualname__ if code is None else _code(code)
