"""Arrays of examples on their way to TensorFlow."""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...optim.common.types import Tensors


def common_length(arrays: dict[str, Tensors]) -> int:
    """Returns the number of examples, which must be the same in all arrays.

    Args:
        arrays: name -> array, or a tuple or dict of arrays, or None; "x" must be there.

    Raises:
        TypeError: a ragged or sparse tensor.
        ValueError: arrays of different lengths, without a first dimension, or empty.
    """
    lengths: dict[str, int] = {}
    for name, value in arrays.items():
        if value is None:
            continue
        check_dense(value, name)
        for path, array in _named_leaves(name, value):
            if np.ndim(array) == 0:
                raise ValueError(
                    f"`{path}` is a single value, {array!r}: it needs a first dimension of examples."
                )
            lengths[path] = len(array)
    if not lengths or "x" not in {path.split("[")[0] for path in lengths}:
        raise ValueError("`x` holds no array.")
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"`{path}` has {length}" for path, length in lengths.items())
        raise ValueError(f"The arrays differ in length: {told}. Each must have one entry per example.")
    examples = next(iter(lengths.values()))
    if examples == 0:
        raise ValueError("`x` is empty: at least one example is needed.")
    return examples


def check_dense(value: Tensors, name: str) -> None:
    """Raises TypeError if there is a ragged or sparse tensor in an array, a tuple or a dict of such."""
    for path, array in _named_leaves(name, value):
        if isinstance(array, tf.RaggedTensor):
            raise TypeError(
                f"`{path}` is a RaggedTensor, which cannot be trained on: pad it, `{path}.to_tensor()`, and "
                "mask the padding in the model or weigh it 0 in `sample_weight`."
            )
        if isinstance(array, tf.SparseTensor):
            raise TypeError(
                f"`{path}` is a SparseTensor, which cannot be trained on: convert it, "
                f"`tf.sparse.to_dense({path})`."
            )


def _named_leaves(name: str, value: Tensors) -> list[tuple[str, Tensors]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _named_leaves(f"{name}[{key!r}]", item)]
    if isinstance(value, tuple):
        return [leaf for key, item in enumerate(value) for leaf in _named_leaves(f"{name}[{key}]", item)]
    return [(name, value)]


def to_tensors(value: Tensors, name: str) -> Tensors:
    """Returns the arrays of a tuple or dict, or one array, as tensors (see `to_tensor`)."""
    if isinstance(value, dict):
        return {key: to_tensors(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(to_tensors(item, f"{name}[{key}]") for key, item in enumerate(value))
    return to_tensor(value, name)


def to_tensor(array: npt.ArrayLike | tf.Tensor, name: str = "x") -> tf.Tensor:
    """Returns what NumPy reads as an array of numbers as a tensor, doubles as Keras' float type.

    Raises:
        TypeError: an array of objects or strings, or a list of arrays; the message calls it `name`.
    """
    if isinstance(array, list) and any(np.ndim(item) and hasattr(item, "dtype") for item in array):
        raise TypeError(
            f"`{name}` is a list of arrays: pass a tuple for several inputs, or `np.stack(...)` for one."
        )
    if not isinstance(array, tf.Tensor):
        array = np.asarray(array)
        if array.dtype.kind not in "biufc":
            raise TypeError(
                f"`{name}` is an array of dtype {array.dtype}, which cannot be trained on: convert it to "
                "numbers first."
            )
        if array.dtype == np.float64:  # or every step would cast it
            array = array.astype(keras.config.floatx())
        return tf.convert_to_tensor(array)
    if array.dtype == tf.string:
        raise TypeError(
            f"`{name}` is a tensor of strings, which cannot be trained on: convert it to numbers first."
        )
    return tf.cast(array, keras.config.floatx()) if array.dtype == tf.float64 else array
