"""Reads all examples of any kind of data, and runs the frozen part over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.signals import stoppable
from ...optim.common.types import Array, Tensors
from ..graph.split import run_partly_training

_SAMPLE = 16  # examples by which saved features are checked


def all_examples(data: object) -> tuple[Tensors, Tensors, Tensors]:
    """`(x, y, sample_weight)` of all examples, as arrays (examples, ...); None for one that is missing.

    Raises:
        ValueError: a `Batches` with a transform; endless or empty data; arrays of different lengths.
    """
    if getattr(getattr(data, "reader", None), "transform", None) is not None:
        raise ValueError(
            "`data` has a `transform`, which may give other examples each epoch: a cache would hold one "
            "version of each. Transform the arrays before, or train without a cache."
        )
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`data` has no end: say how many batches to keep, `dataset.take(batches)`.")
        batches = [keras.utils.unpack_x_y_sample_weight(batch) for batch in stoppable(data)]
        if not batches:
            raise ValueError("`data` is empty.")
        return keras.tree.map_structure(_concatenated, *batches)
    arrays = keras.utils.unpack_x_y_sample_weight(getattr(data, "arrays", data))
    arrays = keras.tree.map_structure(lambda array: None if array is None else np.asarray(array), arrays)
    lengths = {len(array) for array in keras.tree.flatten(arrays) if array is not None}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"`data` must hold arrays of one length with at least one example; found {sorted(lengths)}."
        )
    return arrays


def count(x: Tensors) -> int:
    """The number of examples."""
    return len(keras.tree.flatten(x)[0])


def batches_of(x: Tensors, batch_size: int, copies: int = 1) -> Iterator[Tensors]:
    """The inputs in batches, as tensors, `copies` times over."""
    for _ in range(copies):
        for first in range(0, count(x), batch_size):
            yield keras.tree.map_structure(partial(_rows, first=first, last=first + batch_size), x)


def sample_of(x: Tensors) -> Tensors:
    """A few evenly spaced examples, since in sorted data the first are all of one class."""
    length = count(x)
    rows = np.linspace(0, length - 1, min(length, _SAMPLE)).astype(int)
    return keras.tree.map_structure(lambda array: array[rows], x)


def repeated(array: Array | None, copies: int) -> Array | None:
    """The array, `copies` times over."""
    return array if array is None or copies == 1 else np.concatenate([array] * copies)


def _concatenated(*tensors: tf.Tensor) -> Array | None:
    return None if tensors[0] is None else np.concatenate([tensor.numpy() for tensor in tensors])


def _rows(array: Array, first: int, last: int) -> tf.Tensor:
    return tf.convert_to_tensor(array[first:last])


def features(
    front: keras.Model, augmenting: Sequence[str], batches: Iterable[Tensors]
) -> Iterator[list[Array]]:
    """Runs the frozen part over batches in inference mode, except the layers named in `augmenting`."""

    def run(x: Tensors) -> list[tf.Tensor]:
        return _storable(run_partly_training(front, x, augmenting)) if augmenting else _inference(front, x)

    traced = None
    for x in stoppable(batches):
        if traced is None:
            # Traced once, for batches of any size: the last one is smaller, and tracing a large network
            # takes as long as running it on a thousand images.
            specs = keras.tree.map_structure(_any_batch_size, x)
            traced = tf.function(run, autograph=False).get_concrete_function(specs)
        yield [tensor.numpy() for tensor in traced(x)]


def sample_features(front: keras.Model, batches: Iterable[Tensors]) -> list[Array]:
    """Runs the frozen part over a few examples eagerly, as tracing would take longer than running.

    Nothing is augmented, so the features are the same each time.
    """
    computed = [[tensor.numpy() for tensor in _inference(front, x)] for x in batches]
    return [np.concatenate(batches) for batches in zip(*computed)]


def _inference(model: keras.Model, x: Tensors) -> list[tf.Tensor]:
    return _storable(keras.tree.flatten(model(x, training=False)))


def _storable(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """The tensors, bfloat16 as float32: NumPy's files cannot hold bfloat16."""
    return [tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor for tensor in tensors]


def _any_batch_size(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
