"""Arrays of examples on their way to TensorFlow."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...optim.common.types import Tensors
from ..support.tensorflow_private import is_spec_of_none


def common_length(arrays: dict[str, Tensors]) -> int:
    """Returns the number of examples, which must be the same in all arrays.

    Args:
        arrays: name -> array, or a tuple or dict of arrays, or None; "x" must be there. None within a tuple
            or dict is an optional input that is left out.

    Raises:
        TypeError: a ragged or sparse tensor, or a list of arrays.
        ValueError: arrays of different lengths, without a first dimension, or empty.
    """
    lengths: dict[str, int] = {}
    for name, value in arrays.items():
        if value is None:
            continue
        check_dense(value, name)
        for path, array in _named_leaves(name, value):
            if array is None:
                continue
            _check_no_list_of_arrays(array, path)
            shape = np.shape(array)
            if len(shape) == 0:
                raise ValueError(
                    f"`{path}` is a single value, {array!r}: it needs a first dimension of examples."
                )
            lengths[path] = shape[0]
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


def unusual_data(error: Exception, batch: Tensors) -> TypeError | None:
    """The error to raise instead of one that a step raised on data that few models take; None for that one.

    Args:
        error: what TensorFlow or Keras raised.
        batch: what `keras.utils.unpack_x_y_sample_weight` takes, or the specs of it.
    """
    if str(error).startswith("`"):  # it is ours, and says it better
        return None
    named = zip(("x", "y", "sample_weight"), keras.utils.unpack_x_y_sample_weight(batch))
    leaves = [leaf for name, value in named for leaf in _named_leaves(name, value)]
    for path, leaf in leaves:
        if isinstance(leaf, (tf.RaggedTensor, tf.RaggedTensorSpec)):
            return TypeError(
                f"`{path}` is ragged, which the model or its loss does not take: pad it, by "
                "`dataset.padded_batch(...)` or `.to_tensor()` in `dataset.map(...)`, and mask the "
                "padding in the model or weigh it 0 in `sample_weight`."
            )
        rank = tf.TensorShape(getattr(leaf, "shape", None)).rank
        if rank == 0:
            return TypeError(
                f"`{path}` is a single value in each element of the dataset: make batches of examples, "
                "`dataset.batch(batch_size)`."
            )
        if rank is None and hasattr(leaf, "shape"):
            return TypeError(
                f"`{path}` has no known number of dimensions in the dataset's `element_spec`, {leaf}: "
                "make it with `from_generator(..., output_signature=...)`, or say its shape in "
                "`dataset.map(...)` by `tf.ensure_shape`."
            )
    # These last: an error of another kind may name a layer that looks strings up.
    for path, leaf in leaves:
        if getattr(leaf, "dtype", None) == tf.string and "string" in str(error):
            return TypeError(
                f"`{path}` holds strings, which the model takes for numbers: convert them, or let it "
                "look them up, `keras.layers.StringLookup` after `keras.Input(shape, dtype='string')`."
            )
    return None


def _named_leaves(name: str, value: Tensors) -> list[tuple[str, Tensors]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _named_leaves(f"{name}[{key!r}]", item)]
    if isinstance(value, tuple):
        return [leaf for key, item in enumerate(value) for leaf in _named_leaves(f"{name}[{key}]", item)]
    return [(name, value)]


def to_tensors(value: Tensors, name: str) -> Tensors:
    """Returns the arrays of a tuple or dict, or one array, as tensors (see `to_tensor`); None as it is."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {key: to_tensors(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(to_tensors(item, f"{name}[{key}]") for key, item in enumerate(value))
    return to_tensor(value, name)


def to_tensor(array: npt.ArrayLike | tf.Tensor, name: str = "x") -> tf.Tensor:
    """Returns what NumPy reads as an array of numbers or strings as a tensor, doubles as Keras' float type.

    Raises:
        TypeError: an array of other objects, weights that are strings, or a list of arrays; the message calls
            it `name`.
    """
    _check_no_list_of_arrays(array, name)
    if not isinstance(array, tf.Tensor):
        array = np.asarray(array)
        strings = array.dtype.kind == "O" and all(isinstance(item, (str, bytes)) for item in array.flat)
        if array.dtype.kind not in "biufcSU" and not strings:
            raise TypeError(
                f"`{name}` is an array of dtype {array.dtype}, of which TensorFlow makes no tensor: convert "
                "it to numbers or strings first."
            )
        if array.dtype.kind == "f" and array.dtype.itemsize >= 8:  # or every step would cast it
            array = array.astype(keras.config.floatx())
        array = tf.convert_to_tensor(array)
    if array.dtype == tf.string and name == "sample_weight":
        raise TypeError(f"`{name}` holds strings: pass a number for each example.")
    return tf.cast(array, keras.config.floatx()) if array.dtype == tf.float64 else array


def _check_no_list_of_arrays(array: npt.ArrayLike | tf.Tensor, name: str) -> None:
    if isinstance(array, list) and any(np.ndim(item) and hasattr(item, "dtype") for item in array):
        raise TypeError(
            f"`{name}` is a list of arrays: pass a tuple for several inputs, or `np.stack(...)` for one."
        )


def map_tensors(function: Callable[[tf.Tensor], Tensors], nest: Tensors) -> Tensors:
    """`tf.nest.map_structure` of the tensors in a nest, or of their specs; None, for no input, stays None."""

    def mapped(leaf: Tensors) -> Tensors:
        return None if leaf is None or is_spec_of_none(leaf) else function(leaf)

    return tf.nest.map_structure(mapped, nest)


def tensors_in(nest: Tensors) -> list[tf.Tensor]:
    """The tensors of a nest, or their specs, in order, without the None of optional inputs."""
    return [leaf for leaf in tf.nest.flatten(nest) if not (leaf is None or is_spec_of_none(leaf))]
