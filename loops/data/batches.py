"""Arrays as batches whose order is a pure function of seed, epoch and position."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.arguments import whole_number
from ...optim.common.types import Array, Batch, Tensors
from .arrays import common_length, to_tensors
from .batch_reader import MAX_SEED, BatchReader, Transform


class Batches:
    """Arrays in memory, in batches, shuffled anew each epoch.

    The order of an epoch depends on `seed` and the epoch's number alone, not on what was read before. So
    training resumes in the middle of an epoch by two numbers. The arrays live on the device, and
    `TrainStep.run` reads them there without a call into Python. For data larger than memory use a
    `tf.data.Dataset`.

    Iterating gives one epoch of `(x, y)` or `(x, y, sample_weight)` tensors; where `y` is None, of `x` alone,
    or of `(x,)` for a tuple of inputs. The next `for` gives the next epoch, in another order. The last batch
    may be short.

    Args:
        x: array of shape (examples, ...), or a tuple or dict of such arrays, with None for an optional input
            that is left out. A list is one array. Strings are for models that look them up.
        y: targets, (examples, ...), or a tuple or dict of such; None for none.
        batch_size: examples in a batch.
        shuffle: whether to shuffle each epoch.
        seed: of the shuffle, 0 to 2**31 - 1. The same seed gives the same order.
        transform: function of `(x, y)` that returns `(x, y)`, applied to each batch as TensorFlow
            operations: casts, scaling, augmentation. If it has a parameter `seed`, it is given an int32
            tensor of shape (2,), another one for each batch and the same again on a rerun. None leaves
            batches as they are.
        sample_weight: what each example counts in the loss and the metrics, (examples,); None for 1.

    Attributes:
        epoch: the epoch that the next `for`, or the next call of `train`, begins with, from 0; set it to
            start elsewhere.
        examples: how many there are; `len(data)` is the number of batches in an epoch.

    Raises:
        ValueError: empty data, arrays of different lengths, a batch size or seed out of range, or
            `sample_weight` without `y`.
        TypeError: an array of objects other than strings, a list of arrays, a number of another type, or a
            `transform` that is no function.

    Example:
        >>> import numpy as np
        >>> from gradloop import loops
        >>> data = loops.Batches(np.arange(5), np.arange(5), 2, shuffle=False)
        >>> [x.numpy().tolist() for x, y in data]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        x: Tensors,
        y: Tensors,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        transform: Transform | None = None,
        sample_weight: Tensors = None,
    ) -> None:
        batch_size = whole_number("batch_size", batch_size, at_least=1)
        if whole_number("seed", seed, at_least=0) >= MAX_SEED:
            raise ValueError(f"`seed` must be at most 2**31 - 1, got {seed}")
        if transform is not None and not callable(transform):
            raise TypeError(f"`transform` must be a function of (x, y), not {transform!r}.")
        if y is None and sample_weight is not None:
            raise ValueError("`sample_weight` needs `y`: without targets, pass the weights as part of `x`.")
        arrays = {"x": x, "y": y, "sample_weight": sample_weight}
        self.examples = common_length(arrays)
        self.seed = int(seed)
        self.epoch = 0
        self.shuffle = bool(shuffle)
        self.reader = BatchReader(batch_size, transform)
        self._order: tuple[tuple[int, int], Array] | None = None
        self.arrays = keras.utils.pack_x_y_sample_weight(
            *(None if a is None else to_tensors(a, name) for name, a in arrays.items())
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.examples // self.batch_size)

    @property
    def batch_size(self) -> int:
        """Examples in a batch, the last one of an epoch aside."""
        return self.reader.batch_size

    def __iter__(self) -> BatchIterator:
        """Starts the next epoch."""
        iterator = self.iterator(self.epoch)
        self.epoch += 1
        return iterator

    def order(self, epoch: int) -> Array:
        """Returns the indices of all examples in the order of an epoch: int64, (examples,), read-only.

        The last epoch's order stays in memory, 8 bytes an example.

        Args:
            epoch: number of the epoch, from 0.
        """
        key = self.seed, epoch
        if self._order is None or self._order[0] != key:
            # Of NumPy's generators, this one is guaranteed to give the same numbers in every version.
            shuffled = np.random.RandomState(key).permutation if self.shuffle else np.arange
            indices = shuffled(self.examples)
            indices.flags.writeable = False
            self._order = key, indices
        return self._order[1]

    def with_arrays(self, x: Tensors, y: Tensors, sample_weight: Tensors = None) -> Batches:
        """Returns `Batches` of as many other examples, in the same batch size, order and epoch.

        Args:
            x, y, sample_weight: the other examples, as in the class, `sample_weight=None` for weights of 1;
                the same `transform` is applied to them.

        Raises:
            ValueError, TypeError: as for the class.
        """
        other = Batches(
            x,
            y,
            self.batch_size,
            shuffle=self.shuffle,
            seed=self.seed,
            transform=self.reader.transform,
            sample_weight=sample_weight,
        )
        other.epoch = self.epoch
        return other

    def iterator(self, epoch: int = 0, position: int = 0) -> BatchIterator:
        """Returns an iterator over the rest of an epoch; `Batches` itself does not move.

        Args:
            epoch: which epoch, from 0.
            position: how many of its batches to skip.

        Raises:
            ValueError: an `epoch` below 0, or a `position` outside of the epoch.
        """
        return BatchIterator(self, epoch, position)


class BatchIterator:
    """An iterator over an epoch of `Batches`, as `iter(batches)` and `batches.iterator()` return it.

    Attributes:
        batches: the `Batches` that it reads.
        epoch, position: number of the epoch, and of the next batch in it, both from 0.

    Raises:
        ValueError: an `epoch` below 0, or a `position` outside of the epoch.

    Example:
        >>> import numpy as np
        >>> from gradloop import loops
        >>> data = loops.Batches(np.arange(5), None, batch_size=2, shuffle=False)
        >>> iterator = data.iterator(epoch=0, position=1)  # skips a batch
        >>> next(iterator).numpy().tolist(), iterator.position, iterator.remaining
        ([2, 3], 2, 1)
    """

    def __init__(self, batches: Batches, epoch: int, position: int) -> None:
        if epoch < 0 or not 0 <= position <= len(batches):
            raise ValueError(
                f"`epoch` {epoch} and `position` {position} are outside of the data: an epoch has "
                f"{len(batches)} batches."
            )
        self.batches = batches
        # As Python's own numbers: a checkpoint's JSON takes no NumPy numbers.
        self.epoch = whole_number("epoch", epoch, at_least=0)
        self.position = whole_number("position", position, at_least=0)

    @property
    def remaining(self) -> int:
        """Batches left in the epoch."""
        return len(self.batches) - self.position

    def indices(self, batches: int) -> Array:
        """Returns which examples the next `batches` hold, in order: int64, 1-D. The last may be short."""
        size = self.batches.batch_size
        first = self.position * size
        return self.batches.order(self.epoch)[first : first + batches * size]

    def of_one_size(self, steps: int) -> tuple[BatchReader, int]:
        """Returns a reader for the next batches of one size, and how many of the next `steps` those are."""
        data = self.batches
        full = data.examples // data.batch_size - self.position
        size = data.batch_size if full else data.examples % data.batch_size
        return dataclasses.replace(data.reader, size=size), min(steps, full or 1)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self.remaining:
            raise StopIteration
        data, order = self.batches, self.indices(1)
        batch = data.reader.gather(data.arrays, order, data.seed, self.epoch, self.position)
        self.position += 1
        return batch


# What training and evaluation read, and its iterators.
Data: TypeAlias = Batches | tf.data.Dataset
DataIterator: TypeAlias = BatchIterator | tf.data.Iterator


def check_iterator(iterator: object) -> None:
    """Raises ValueError for anything but an iterator that a step can read."""
    if not isinstance(iterator, (BatchIterator, tf.data.Iterator)):
        raise ValueError(
            f"`iterator` is {iterator!r}: pass `iter(data)` of a `Batches` or a `tf.data.Dataset`."
        )
