"""What the next passes of a dataset draw their seeds and random numbers from: read and set.

Each pass of a `shuffle` takes the next seeds of a generator that belongs to the dataset. With an iterator,
TensorFlow saves how many were drawn by those shuffles alone that it is reading: not by one that has output
its last example to a `batch` after it, or that is yet to be begun. It has no public way to ask for the rest.

A `map` may draw from a variable: that of a `tf.random.Generator`, or of a random layer of Keras.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto, VariantTensorDataProto
from tensorflow.core.framework.types_pb2 import DT_VARIANT

from .dataset_copy import graph_of
from .dataset_order import may_draw_seeds, tensors_of, variables_in

# Where the generator is among the inputs of a dataset, and whether each pass draws anew.
_GENERATORS = {
    "ShuffleDatasetV3": (4, "reshuffle_each_iteration"),
    "ShuffleAndRepeatDatasetV2": (5, "reshuffle_each_iteration"),
    "RandomDatasetV2": (2, "rerandomize_each_iteration"),
}
_COUNT = "epoch_num_random_samples"
_PER_PASS = 2
# TensorFlow describes a dataset with all that it holds in memory, 100 MB in half a second.
_MAX_BYTES = 500_000_000


class Generator(NamedTuple):
    """What a shuffle draws its seeds from."""

    handle: tf.Tensor
    cached: bool  # whether a `cache` keeps the order that they give


class DrawnSeeds:
    """How many seeds each shuffle of a dataset has drawn, in an order that is the same in each process.

    For each generator it keeps an iterator, over nothing, that has drawn from it. What TensorFlow saves of
    that says how many were drawn in all, and restoring it with another number sets that. After these numbers
    come the values of the variables, a list for each.
    """

    def __init__(self, generators: Sequence[Generator], variables: Sequence[tf.Variable]) -> None:
        self._variables = variables
        self._cached = [generator.cached for generator in generators]
        self._gauges = [_gauge(generator.handle) for generator in generators]
        counts = [_saved(gauge).drawn - _PER_PASS for gauge in self._gauges]
        self.set([*counts, *self._values()])

    def get(self) -> list[Any]:
        """The counts and values by which another process gives the next passes as this one will.

        That of a shuffle before a `cache` is what it was at first: without what is in the cache, the other
        process has to make it once more.
        """
        counts = [_saved(gauge).drawn for gauge in self._gauges]
        kept = zip(self._at_first, self._cached, counts)
        return [*(first if cached else count for first, cached, count in kept), *self._values()]

    def set(self, drawn: Sequence[Any]) -> None:
        """Sets what `get` returned of a dataset that is made in the same way."""
        places = len(self._gauges)
        for gauge, count in zip(self._gauges, drawn[:places], strict=True):
            _saved(gauge).restore(gauge, count)
        for variable, values in zip(self._variables, drawn[places:], strict=True):
            variable.assign(np.reshape(values, variable.shape))
        self._at_first = drawn[:places]

    def _values(self) -> list[list[int]]:
        return [variable.numpy().ravel().tolist() for variable in self._variables]


_found: WeakKeyDictionary[tf.data.Dataset, DrawnSeeds | None] = WeakKeyDictionary()


def drawn_seeds(dataset: tf.data.Dataset) -> DrawnSeeds | None:
    """The seeds that the shuffles of a dataset have drawn; the same object each time.

    None, with a warning, if that cannot be known: TensorFlow cannot describe the dataset, whose arrays in
    memory are too large, say, or saves iterators in a form that is not known here.
    """
    # An iterator may have put options around the dataset that it is of.
    while type(dataset).__name__ == "_OptionsDataset":
        dataset = dataset._input_dataset
    if dataset not in _found:
        _found[dataset] = _new_drawn_seeds(dataset)
    return _found[dataset]


def _new_drawn_seeds(dataset: tf.data.Dataset) -> DrawnSeeds | None:
    variables = [variable for variable in variables_in(dataset) if _may_be_drawn_from(variable)]
    if not may_draw_seeds(dataset):
        return DrawnSeeds([], variables)
    size = sum(tensor.dtype.size * int(np.prod(tensor.shape)) for tensor in tensors_of(dataset))
    if size > _MAX_BYTES:
        reason = f"its arrays in memory have more than {_MAX_BYTES // 10**6} MB"
    elif not _form_is_known():
        reason = f"TensorFlow {tf.__version__} saves iterators in a form that is not known"
    else:
        try:
            return DrawnSeeds(_generators(dataset), variables)
        except (tf.errors.OpError, ValueError) as error:
            reason = f"TensorFlow cannot describe it ({getattr(error, 'message', error)})"
    warnings.warn(
        f"A dataset is shuffled, and how far its shuffles are cannot be saved, as {reason}: after a resume, "
        "later passes may be shuffled in another order. Read the data by a `loops.Batches` instead.",
        stacklevel=2,
    )
    return None


def _may_be_drawn_from(variable: tf.Variable) -> bool:
    """Whether it is as that of a `tf.random.Generator`, or of a layer of Keras."""
    return tf.as_dtype(variable.dtype) in (tf.int64, tf.uint32) and tuple(variable.shape) in ((2,), (3,))


@functools.cache
def _form_is_known() -> bool:
    gauge = iter(tf.data.Dataset.range(1).shuffle(1, seed=0))
    try:
        _saved(gauge).restore(gauge, 0)
        return _saved(gauge).drawn == 0
    except Exception:  # of many kinds, as any part of it may be another
        return False


def _generators(dataset: tf.data.Dataset) -> list[Generator]:
    nodes = {node.name: node for node in graph_of(dataset).node}
    cached: set[str] = set()
    waiting = [name for name, node in nodes.items() if node.op.startswith("CacheDataset")]
    while waiting:
        inputs = {name.split(":")[0] for name in nodes[waiting.pop()].input} - cached
        cached |= inputs
        waiting.extend(inputs)
    found = {}  # a dataset may be in another one more than once
    for name, node in nodes.items():
        place, anew = _GENERATORS.get(node.op, (0, ""))
        if place and node.attr[anew].b:
            tensor = nodes[node.input[place]].attr["value"].tensor
            handle = tf.io.parse_tensor(tensor.SerializeToString(), tf.resource)
            found[tensor.resource_handle_val[0].name] = Generator(handle, name in cached)
    return list(found.values())


def _gauge(generator: tf.Tensor) -> tf.data.Iterator:
    spec = tf.TensorSpec([], tf.int64)
    shuffled = tf.raw_ops.ShuffleDatasetV3(
        input_dataset=tf.data.experimental.to_variant(tf.data.Dataset.range(1)),
        buffer_size=1,
        seed=0,
        seed2=0,
        seed_generator=generator,
        output_types=[spec.dtype],
        output_shapes=[spec.shape],
    )
    return iter(tf.data.experimental.from_variant(shuffled, spec))


class _Saved(NamedTuple):
    """What TensorFlow saves of an iterator that shuffles."""

    parts: list[tf.Tensor]  # of an iterator, one for each stage of its dataset
    place: int  # of the shuffle's
    decoded: VariantTensorDataProto  # that part

    @property
    def names(self) -> list[str]:
        return list(self.decoded.metadata.decode().split("@@")[1:])  # after that of the stage

    @property
    def values(self) -> list[int]:
        """What the names stand for, which TensorFlow compresses."""
        compressed = tf.io.parse_tensor(self.decoded.tensors[0].SerializeToString(), tf.variant)
        types, shapes = len(self.names) * [tf.int64], len(self.names) * [tf.TensorShape([])]
        values = tf.raw_ops.UncompressElement(compressed=compressed, output_types=types, output_shapes=shapes)
        return [int(value) for value in values]

    @property
    def drawn(self) -> int:
        return self.values[self.names.index(_COUNT)]

    def restore(self, iterator: tf.data.Iterator, count: int) -> None:
        """Restores the iterator that this is of with another number."""
        values = [count if name == _COUNT else value for name, value in zip(self.names, self.values)]
        part = VariantTensorDataProto(
            type_name=self.decoded.type_name,
            metadata=self.decoded.metadata,
            tensors=[tf.make_tensor_proto(value, tf.int64) for value in values],
        )
        tensor = TensorProto(dtype=DT_VARIANT, variant_val=[part]).SerializeToString()
        parts = [*self.parts]
        parts[self.place] = tf.io.parse_tensor(tensor, tf.variant)
        tf.raw_ops.DeserializeIterator(
            resource_handle=iterator._iterator_resource, serialized=tf.stack(parts)
        )


def _saved(iterator: tf.data.Iterator) -> _Saved:
    state = tf.raw_ops.SerializeIterator(
        resource_handle=iterator._iterator_resource,
        external_state_policy=tf.data.experimental.ExternalStatePolicy.IGNORE.value,
    )
    parts = tf.unstack(state)
    for place, part in enumerate(parts):
        content = TensorProto.FromString(tf.io.serialize_tensor(part).numpy()).tensor_content
        # Its length comes first: bytes above 127, and one below.
        length = next(index for index, byte in enumerate(content) if byte < 128) + 1
        found = _Saved(parts, place, VariantTensorDataProto.FromString(content[length:]))
        if _COUNT in found.names:
            return found
    raise LookupError(f"TensorFlow saved no {_COUNT!r} of an iterator")
