"""Predictions and losses of a network for some examples of its data, from which pictures are drawn."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from ...optim.common.types import Array, Batch, Tensors
from ..data.arrays import tensors_in
from ..loss.loss_and_metrics import LossAndMetrics
from ..support.record_writes import record_writes
from ..support.scalars import recording_disabled


class Examples(NamedTuple):
    """Images, targets, predictions and losses of some examples."""

    images: Array  # (examples, height, width, channels)
    truth: Array | None  # (examples, ...); None, as `predictions`, if there is no single array
    predictions: Array | None
    losses: Array | None  # float32, (examples,); None where the loss gives none for each

    def select(self, indices: Array | slice) -> Examples:
        """Some of the examples; indices as for a NumPy array."""
        truth, predictions, losses = (None if field is None else field[indices] for field in self[1:])
        return Examples(self.images[indices], truth, predictions, losses)


class Predictor:
    """Runs a model on batches, and restores the state that its layers change.

    `name` is the argument that the data came from, for errors.
    """

    def __init__(self, loss_and_metrics: LossAndMetrics, name: str) -> None:
        self._name = name
        # A `partial` for each object: TensorFlow counts the retraces of a method over all objects, and warns.
        predict = functools.partial(self._predict)
        self._run = tf.function(predict, autograph=False, reduce_retracing=True)
        self._loss_and_metrics = loss_and_metrics

    def read(self, batches: Iterable[Batch], max_batches: int) -> Iterator[Examples]:
        """Yields the examples of at most `max_batches` batches, without padding (examples of weight 0)."""
        for batch in itertools.islice(batches, max_batches):
            x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
            image = _image_in(x)
            if image is None:
                raise _no_images(batch, self._name)
            predictions, losses = self._run(batch)
            selected: Array | slice = slice(None)
            if isinstance(weight, tf.Tensor) and weight.shape.rank == 1:
                selected = weight.numpy() != 0
            examples = Examples(image.numpy(), _array(y), _array(predictions), _array(losses))
            yield examples.select(selected)

    def _predict(self, batch: Batch) -> tuple[Tensors, tf.Tensor | None]:
        with record_writes(everything=True, seeds=True) as writes, recording_disabled():
            predictions, losses = self._loss_and_metrics.predicted(batch)
        writes.undo_unless(False)
        return _as_float32(predictions), losses


def is_image(leaf: object) -> bool:
    """Whether a tensor holds images: (batch, height, width, 1, 3 or 4) numbers."""
    return _may_be_image(leaf) and is_image_shape(leaf.shape)  # type: ignore[attr-defined]  # it has one


def is_image_shape(shape: Sequence[int | None]) -> bool:
    """Whether (batch, height, width, channels) with 1, 3 or 4 channels."""
    return len(shape) == 4 and shape[-1] in (1, 3, 4)


def _may_be_image(leaf: object) -> bool:
    """Whether a tensor, or its spec, may hold images, as far as its shape is known."""
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None or dtype is None or not (dtype.is_floating or dtype.is_integer):
        return False
    return shape.rank is None or shape.rank == 4 and shape[-1] in (1, 3, 4, None)


def check_images(batch: Batch, name: str) -> None:
    """Raises ValueError if the inputs of a batch, or of its spec, cannot be images; `name` is the data's."""
    if not any(map(_may_be_image, tensors_in(keras.utils.unpack_x_y_sample_weight(batch)[0]))):
        raise _no_images(batch, name)


def _no_images(batch: Batch, name: str) -> ValueError:
    leaves = tensors_in(keras.utils.unpack_x_y_sample_weight(batch)[0])
    shapes = ", ".join(f"{tuple(leaf.shape)} {leaf.dtype.name}" for leaf in leaves if hasattr(leaf, "dtype"))
    return ValueError(
        f"`images` draws the inputs of `{name}`, and these are no images, but {shapes}: an image is (batch, "
        "height, width, channels) of numbers, with 1, 3 or 4 channels. Pass `images=0`, add the axis that is "
        "missing, or make them numbers."
    )


def _image_in(x: Tensors) -> tf.Tensor | None:
    return _as_float32(next(filter(is_image, tensors_in(x)), None))


def _as_float32(value: Tensors) -> Tensors:
    """A tensor of half precision as float32; anything else as it is."""
    half = isinstance(value, tf.Tensor) and value.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(value, tf.float32) if half else value


def _array(value: Tensors) -> Array | None:
    return value.numpy() if isinstance(value, tf.Tensor) else None
