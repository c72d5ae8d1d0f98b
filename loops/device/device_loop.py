"""Many steps in one call, on the device.

A call into TensorFlow from Python costs more than a small model's step, so the loop over batches is part of
the graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Batch, Scalar, Tensors
from ..data.arrays import map_tensors
from ..data.batches import Batches, BatchIterator, DataIterator
from ..distribute.sharding import LazyBatch, shard_indices
from ..support.scalars import Columns
from ..support.tensorflow_private import call_traced, is_missing_batch
from .batch_loops import array_loop, dataset_loop, sharded_loop
from .executor import executor
from .read_clock import ReadClock
from .row_buffer import RowBuffer, Rows, joined
from .step_count import StepCount
from .trace_cache import TraceCache, Traced, dynamic_batch_spec, fixed_spec

# A traced loop, what to give it (the steps and the call's number aside), and how many steps it is to run.
Call: TypeAlias = tuple[Callable[..., object], list[Tensors], int]


class DeviceLoop:
    """Runs `body` on one batch or on many.

        function = the traced loop over the data            # `TraceCache`: rarely a new trace
        for each step, on the device:
            read the batch
            buffer[step] = body(batch), number of the call
        return the rows of the buffer that this call wrote

    The number of examples and of steps is open: neither a short last batch nor another number of steps causes
    a retrace. Batches of another shape are one more trace, and for a model that asks how many examples there
    are, batches of another size.

    Args:
        body: function from a batch to `width` float32 scalars, or more. All it does must depend on the batch.
        one_thread: see `executor`; only as long as the step calls no functions of its own.
        forward: see `TraceCache`.
        count: int64 variable; the number of steps that ran is added to it, as `StepCount` does.
        made_for: the number of examples that the model's inputs are made for; None for any.
        columns: what `body`, when it was run or traced last, returned beyond `width` scalars.
        replicas: over how many `body` splits batches, which may be a `LazyBatch` then; None if it takes
            tensors only.
        clock: times how the batch is read, of steps that run alone; None for no such thing.

    Attributes:
        traces: how often `body` was traced.
        traced: the function that was traced last; None before.
        rows: what the last call of `many` returned or, if it failed, what its steps until then recorded.
        columns: of the last call, what its rows hold beyond `width` numbers.
        scope: what the tags of `tf.summary` begin with, such as "validation/"; set before the first call.
    """

    scope = ""

    def __init__(
        self,
        body: Callable[[Batch | LazyBatch], list[Scalar]],
        width: int,
        one_thread: bool,
        forward: Callable[[Batch], Tensors],
        count: tf.Variable,
        replicas: int | None = None,
        made_for: int | None = None,
        columns: Callable[[], Columns] = tuple,
        clock: ReadClock | None = None,
    ) -> None:
        self._body = body
        self._width = width
        self._traces = TraceCache(forward, one_thread)
        self._count = StepCount(count)
        self._replicas = replicas
        self._made_for = made_for
        self._clock = clock
        self._buffer = RowBuffer(width, columns)
        self._specs: WeakKeyDictionary[Batches, Tensors] = WeakKeyDictionary()
        self.rows: Array = np.zeros((0, width), np.float32)
        self.columns: Columns = ()

    @property
    def traces(self) -> int:
        return self._traces.traces

    @property
    def traced(self) -> Traced | None:
        return self._traces.traced

    def run_one(self, batch: Batch, check: Callable[[], None], spec: Tensors = None) -> tf.Tensor:
        """Runs one batch of tensors; returns its values: float32, (width + columns,).

        Args:
            check: called after the step is traced and before it runs.
            spec: of the batch, if its dataset has one with more open dimensions; None for its own.
        """

        def trace(fixed: bool) -> Callable[..., tf.Tensor | None]:
            own = map_tensors(fixed_spec if fixed else dynamic_batch_spec, batch)
            specs = own if spec is None or fixed else map_tensors(lambda known: known, spec)
            return self._traces.get("one", self._one, specs)

        function = self._traces.trace_dynamic_or_fixed(trace)
        check()
        with executor(self._traces.one_thread):
            row = function(batch)
        self.columns = self._buffer.columns_of(function)
        return row

    def run_many(self, iterator: DataIterator, steps: int, check: Callable[[], None]) -> Array:
        """Runs up to `steps` batches, fewer only if the data ends; returns float32, (steps, numbers).

        Args:
            iterator: it is moved on.
            steps: at most `CAPACITY`.
            check: called after the step is traced and before it runs.
        """
        self.rows, self.columns = np.zeros((0, self._width), np.float32), ()
        arrays = isinstance(iterator, BatchIterator)
        if arrays:
            steps = min(steps, iterator.remaining)
            if steps == 0:
                return self.rows
        left, make = steps, self._arrays_call if arrays else self._dataset_call
        function, arguments, steps = self._traces.trace_dynamic_or_fixed(
            functools.partial(make, iterator, steps)
        )
        check()
        self._count.start_call()
        call = tf.constant([steps, self._buffer.next_call()], tf.int64)
        try:
            with executor(self._traces.one_thread):
                call_traced(function, arguments[0], call, *arguments[1:])
        except tf.errors.InvalidArgumentError as error:
            if arrays or not is_missing_batch(error):
                raise
        finally:
            self.rows, self.columns = self._buffer.read(function)
            self._count.end_call(len(self.rows))
            if arrays:
                iterator.position += len(self.rows)
        if left > steps:  # batches of another size
            before = Rows(self.rows, self.columns)
            try:
                self.run_many(iterator, left - steps, check)
            finally:
                self.rows, self.columns = joined([before, Rows(self.rows, self.columns)])
        return self.rows

    def _arrays_call(self, iterator: BatchIterator, steps: int, fixed: bool) -> Call:
        data, reader = iterator.batches, iterator.batches.reader
        if fixed:
            reader, steps = iterator.of_one_size(steps)
        order = iterator.indices(steps)
        # A transform's random numbers are for the whole batch, on any number of replicas.
        replicas = (self._replicas or 1) if reader.transform is None and not fixed else 1
        lazy = self._replicas is not None and reader.transform is None and reader.size is None
        loop: Callable[..., None] = functools.partial(array_loop, self._record, self._read, reader, lazy)
        given = [np.array([data.seed, iterator.epoch, iterator.position]), order]
        if replicas > 1:
            loop = functools.partial(sharded_loop, self._record, self._read, reader)
            given = [*shard_indices(order, data.batch_size, replicas)]

        function = self._traces.get(
            ("arrays", reader),
            loop,
            self._specs_of(data),
            tf.TensorSpec([2], tf.int64),
            *(tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in given),
            batch=reader.one_batch,
        )
        return function, [data.arrays, *map(tf.constant, given)], steps

    def _specs_of(self, data: Batches) -> Tensors:
        """The same object in each call, which `TraceCache` knows again."""
        if data not in self._specs:
            self._specs[data] = map_tensors(dynamic_batch_spec, data.arrays)
        return self._specs[data]

    def _dataset_call(self, iterator: tf.data.Iterator, steps: int, fixed: bool) -> Call:
        if fixed and self._made_for is None:
            self._traces.check_open_batch(iterator.element_spec)
        function = self._traces.get(
            ("dataset", fixed),
            functools.partial(dataset_loop, self._record, self._read, self._made_for if fixed else None),
            iterator.element_spec,
            tf.TensorSpec([2], tf.int64),
            argument=tf.data.IteratorSpec,
        )
        return function, [iterator], steps

    def _one(self, batch: Batch) -> tf.Tensor:
        if self._clock is not None:
            self._clock.given(batch)
        row = self._row(batch)
        with tf.control_dependencies([row]):
            self._count.add(1)
        return row

    def _read(self, read: Callable[[], Batch | LazyBatch]) -> Batch | LazyBatch:
        return read() if self._clock is None else self._clock.read(read)

    def _record(self, step: tf.Tensor, batch: Batch | LazyBatch, number: tf.Tensor) -> None:
        """Runs a step of a call with this number."""
        row = self._row(batch, number)
        self._buffer.write(step, row)
        self._count.after_step(row)

    def _row(self, batch: Batch | LazyBatch, *number: tf.Tensor) -> tf.Tensor:
        self._traces.traces += not tf.executing_eagerly()
        # In `many` too a summary's tag begins with no "while/".
        with tf.name_scope(self.scope), self._count.default_summary_step():
            return tf.stack([*self._body(batch), *number])
