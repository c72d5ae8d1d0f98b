"""Reads the first batches of the data, and more of it later, without changing the data's position."""

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

MAX_BATCHES = 20
_SECONDS = 5.0  # time limit: no further batch is read after it
# Gives an iterator with a batch left, as long as the data is not empty.
Reader: TypeAlias = Callable[[], DataIterator]


class Sample(NamedTuple):
    """The batches that were read, and functions that read more."""

    batches: list[Batch]  # the first of a pass, as the step gets them
    complete: bool  # whether they are a whole pass
    read: Reader  # reads from the start of the pass, again and again
    read_first: Reader | None  # repeats the first batch; None for a `Batches`, which is read on the device
    read_few: Reader  # repeats a few examples of the first batch
    labels: Array | None = None  # all targets of a `Batches`, in the order of the pass; None if not known
    not_restored: str = ""  # why the state of the data could not be restored; '' if it was

    @property
    def batch_size(self) -> int:
        """Examples in the first batch."""
        return examples_of(self.batches[0])

    @property
    def examples(self) -> int:
        """How many examples were read."""
        return sum(map(examples_of, self.batches))


@contextlib.contextmanager
def sample_from(data: Data, few: int | None) -> Iterator[Sample]:
    """Reads the first batches of `data`, and restores its state at the end of the `with`.

    Raises for empty data and for data of another type. `few` is the number of examples that `read_few` gives;
    None for a whole batch, where the model takes batches of one size alone.
    """
    if isinstance(data, Batches):
        yield _sample_of_batches(data, few)
    elif isinstance(data, tf.data.Dataset):
        states = [(variable, variable.numpy()) for variable in variables_in(data)]
        try:
            yield _sample_of_dataset(data, few)
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


def first_examples(batch: Batch, examples: int) -> Batch:
    """The first examples of a batch."""
    return map_tensors(lambda tensor: tensor[:examples], batch)


def elements_per_example(batch: Batch) -> int:
    """The number of elements in the inputs of one example."""
    x = keras.utils.unpack_x_y_sample_weight(batch)[0]
    return sum(math.prod(int(size or 1) for size in tensor.shape[1:]) for tensor in tensors_in(x))


def _sample_of_batches(data: Batches, few: int | None) -> Sample:
    epoch = data.epoch
    batches, complete = _read(data.iterator(epoch))
    few_indices = data.order(epoch)[: min(few or data.batch_size, data.batch_size)]
    few_data = data.with_arrays(
        *keras.utils.unpack_x_y_sample_weight(
            map_tensors(lambda array: tf.gather(array, few_indices), data.arrays)
        )
    )
    labels = keras.utils.unpack_x_y_sample_weight(data.arrays)[1]
    known = tf.is_tensor(labels) and data.reader.transform is None
    labels_in_order = labels.numpy()[data.order(epoch)] if known else None
    read, read_few = Epochs(data.iterator(epoch)), Epochs(few_data.iterator(epoch))
    return Sample(batches, complete, read, None, read_few, labels_in_order)


def _sample_of_dataset(data: tf.data.Dataset, few: int | None) -> Sample:
    not_restored = ""
    copy = data
    if changes_when_read(data):
        try:
            copy = dataset_copy(data)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            not_restored = (
                f"{reason}, so the dataset itself was read, and its shuffles have begun some passes more"
            )
    batches, complete = _read(iter(copy))
    first, several = copy.take(1).cache(), isinstance(data.element_spec, tuple)
    few_data = first if few is None else first.map(lambda *b: first_examples(b if several else b[0], few))
    if few_data.element_spec != data.element_spec:  # where the spec fixes the size of a batch
        few_data = first
    return Sample(
        batches, complete, _repeated(copy), _repeated(first), _repeated(few_data), not_restored=not_restored
    )


def _repeated(data: tf.data.Dataset) -> Reader:
    return functools.cache(lambda: iter(data.repeat()))  # the iterator is made when it is first used


def _read(iterator: DataIterator) -> tuple[list[Batch], bool]:
    start, batches = time.perf_counter(), []
    for batch in itertools.islice(iterator, MAX_BATCHES):
        batches.append(batch)
        if time.perf_counter() - start > _SECONDS:
            return batches, False
    if not batches:
        raise ValueError(
            "`data` is empty, there is no batch to look at: pass data with at least one example."
        )
    return batches, len(batches) < MAX_BATCHES


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
