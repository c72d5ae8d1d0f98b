"""The first batches of the data, and reading it again, without moving it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import keras
import tensorflow as tf

from ...optim.common.messages import short_repr
from ...optim.common.types import Array, Batch, Tensors
from ...optim.learning_rate.lr_finder import Epochs
from ..data.arrays import map_tensors, tensors_in
from ..data.batches import Batches, Data, DataIterator
from ..support.dataset_copy import dataset_copy
from ..support.dataset_order import changes_when_read, variables_in

MOST_BATCHES = 20
_SECONDS = 5.0  # after which no further batch is read
# Gives an iterator with a batch left, as long as the data is not empty.
Reader: TypeAlias = Callable[[], DataIterator]


class Sample(NamedTuple):
    """What was read, and how to go on."""

    batches: list[Batch]  # the first ones of a pass, as the step gets them
    complete: bool  # whether these are a whole pass
    read: Reader  # the data from the start of the pass, and again when it ends
    first: Reader | None  # the first batch of a dataset, ever again; None of a `Batches`, read on the device
    few: Reader  # a few examples of the first batch, ever again
    labels: Array | None = None  # all targets of a `Batches`, in the pass's order; None if only reading tells
    moved: str = ""  # why the data could not be left as it was; '' if it is

    @property
    def batch_size(self) -> int:
        """Examples in the first batch."""
        return examples_of(self.batches[0])

    @property
    def examples(self) -> int:
        """How many were read."""
        return sum(map(examples_of, self.batches))


@contextlib.contextmanager
def sampled(data: Data, few: int | None) -> Iterator[Sample]:
    """Reads the first batches of `data`, which in the end is as it was; raises for other or empty data.

    `few` is how many examples are a few; None for a whole batch, where a model takes no others.
    """
    if isinstance(data, Batches):
        yield _of_batches(data, few)
    elif isinstance(data, tf.data.Dataset):
        states = [(variable, variable.numpy()) for variable in variables_in(data)]
        try:
            yield _of_dataset(data, few)
        finally:
            for variable, value in states:
                variable.assign(value)
    else:
        raise TypeError(
            f"`data` must be a `loops.Batches` or a `tf.data.Dataset`, got {short_repr(data)}: wrap arrays "
            "as `loops.Batches(x, y, batch_size)`, and pass the data itself where you have an iterator of it."
        )


def examples_of(batch: Batch) -> int:
    """How many examples a batch holds."""
    shape = tensors_in(batch)[0].shape
    return int(shape[0]) if shape.rank else 1


def first_of(batch: Batch, examples: int) -> Batch:
    """The first examples of a batch."""
    return map_tensors(lambda tensor: tensor[:examples], batch)


def elements_in(batch: Batch) -> int:
    """How many numbers the inputs of one example have."""
    x = keras.utils.unpack_x_y_sample_weight(batch)[0]
    return sum(math.prod(int(size or 1) for size in tensor.shape[1:]) for tensor in tensors_in(x))


def _of_batches(data: Batches, few: int | None) -> Sample:
    epoch = data.epoch
    batches, complete = _read(data.iterator(epoch))
    kept = data.order(epoch)[: min(few or data.batch_size, data.batch_size)]
    some = data.with_arrays(
        *keras.utils.unpack_x_y_sample_weight(map_tensors(lambda array: tf.gather(array, kept), data.arrays))
    )
    labels = keras.utils.unpack_x_y_sample_weight(data.arrays)[1]
    known = tf.is_tensor(labels) and data.reader.transform is None
    in_order = labels.numpy()[data.order(epoch)] if known else None
    again, few_again = Epochs(data.iterator(epoch)), Epochs(some.iterator(epoch))
    return Sample(batches, complete, again, None, few_again, in_order)


def _of_dataset(data: tf.data.Dataset, few: int | None) -> Sample:
    moved = ""
    copy = data
    if changes_when_read(data):
        try:
            copy = dataset_copy(data)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            moved = f"{reason}, so it was read itself: its shuffles have begun some passes more"
    batches, complete = _read(iter(copy))
    first, several = copy.take(1).cache(), isinstance(data.element_spec, tuple)
    some = first if few is None else first.map(lambda *b: first_of(b if several else b[0], few))
    if some.element_spec != data.element_spec:  # the size of a batch is a part of it
        some = first
    return Sample(batches, complete, _repeated(copy), _repeated(first), _repeated(some), moved=moved)


def _repeated(data: tf.data.Dataset) -> Reader:
    return functools.cache(lambda: iter(data.repeat()))  # made when it is wanted


def _read(iterator: DataIterator) -> tuple[list[Batch], bool]:
    start, batches = time.perf_counter(), []
    for batch in itertools.islice(iterator, MOST_BATCHES):
        batches.append(batch)
        if time.perf_counter() - start > _SECONDS:
            return batches, False
    if not batches:
        raise ValueError(
            "`data` is empty, there is no batch to look at: pass data with at least one example."
        )
    return batches, len(batches) < MOST_BATCHES


def arrays_in(nest: Tensors, name: str) -> Iterator[tuple[str, Array]]:
    """The arrays of numbers in a nest, by names such as `x['image']`; ragged ones as their values."""
    if isinstance(nest, dict):
        items = [(f"{name}[{key!r}]", item) for key, item in nest.items()]
    elif isinstance(nest, (tuple, list)):
        items = [(f"{name}[{key}]", item) for key, item in enumerate(nest)]
    else:
        if isinstance(nest, (tf.RaggedTensor, tf.SparseTensor)):
            nest = nest.flat_values if isinstance(nest, tf.RaggedTensor) else nest.values
        if nest is not None and nest.dtype != tf.string:
            yield name, tf.cast(nest, tf.float64).numpy() if nest.dtype == tf.bfloat16 else nest.numpy()
        return
    for path, item in items:
        yield from arrays_in(item, path)
