"""Many steps in one call, on the device.

A call into TensorFlow from Python costs more than a small model's step, so the loop over batches is part of
the graph. What each step recorded goes to rows of a variable rather than of a loop value: whatever ends the
loop early (the end of the data, a NaN), the rows written until then are there to be read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from ..data.batches import BatchIterator, BatchReader
from ..distribute.sharding import LazyBatch, shard_indices
from .executor import executor
from .trace_cache import TraceCache, open_spec

# Rows kept between two reads: more steps than this make several calls.
CAPACITY = 4096
# Calls are numbered in float32, which counts this far.
_LAST_CALL = 2**24
# What TensorFlow says where a batch is taken out of an optional that holds none.
_NO_BATCH = "optional does not have a value"

Rows = np.ndarray[Any, Any]


class DeviceLoop:
    """Runs `body` on one batch or on many.

    Each kind of call is traced once for a batch's dtypes and ranks. The first dimension is left open, and so
    is the number of steps: neither a short last batch nor another number of steps traces again. Batches of
    another shape are one more trace (see `TraceCache`).

    Args:
        body: function from a batch to `width` float32 scalars, built of TensorFlow operations. All it does
            must depend on the batch.
        width: how many scalars.
        inline: see `executor`; given up where the step calls functions of its own.
        forward: see `TraceCache`.
        count: int64 variable; the number of steps that ran is added to it.
        replicas: over how many `body` splits batches, and then a batch may be a `LazyBatch`; None where
            it takes whole batches alone.

    Attributes:
        traces: how often `body` was traced.
        rows: what the last call of `many` returned or, if it failed, what its steps until then recorded.
    """

    def __init__(
        self,
        body: Callable[[Any], list[tf.Tensor]],
        width: int,
        inline: bool,
        forward: Callable[[Any], Any],
        count: tf.Variable,
        replicas: int | None = None,
    ) -> None:
        self._body = body
        self._width = width
        self._tracer = TraceCache(forward, inline)
        self._count = count
        self._replicas = replicas
        self._buffer: tf.Variable | None = None
        self._call = 0
        self.traces = 0
        self.rows: Rows = np.zeros((0, width), np.float32)

    def one(self, batch: Any, check: Callable[[], None], spec: Any = None) -> tf.Tensor:
        """Runs one batch of tensors; returns its values: float32, (width,).

        Args:
            batch: a nest of tensors.
            check: called once the step is traced, before it runs.
            spec: of the batch, where its source knows one with more open dimensions; None for its own.
        """
        specs = tf.nest.map_structure(open_spec, batch) if spec is None else spec
        function = self._tracer.get("one", self._one, specs)
        check()
        with executor(self._tracer.inline):
            return function(batch)

    def many(self, iterator: Any, steps: int, check: Callable[[], None]) -> Rows:
        """Runs up to `steps` batches; fewer only if the data ends.

        Args:
            iterator: a `BatchIterator` (it is moved on) or an iterator of a `tf.data.Dataset`.
            steps: at most `CAPACITY`.
            check: called once the step is traced, before it runs.

        Returns:
            float32 array, (steps that ran, width).
        """
        self.rows = np.zeros((0, self._width), np.float32)
        if self._buffer is None:
            # One column more than values: the number of the call that wrote the row, so that rows of an
            # earlier call are known for what they are.
            self._buffer = _of_this_process(tf.zeros([CAPACITY, self._width + 1]))
        arrays = isinstance(iterator, BatchIterator)
        if arrays:
            steps = min(steps, iterator.remaining)
            if steps == 0:
                return self.rows
        function, arguments = self._arrays_call(iterator, steps) if arrays else self._dataset_call(iterator)
        check()
        self._call = self._call % _LAST_CALL + 1
        try:
            with executor(self._tracer.inline):
                function(arguments[0], tf.constant([steps, self._call], tf.int64), *arguments[1:])
        except tf.errors.InvalidArgumentError as error:
            if arrays or _NO_BATCH not in str(error):
                raise
        except KeyboardInterrupt as interrupt:
            # One that comes elsewhere has no rows: those here would be of a call before.
            interrupt.rows_of = self  # type: ignore[attr-defined]  # not declared for an interrupt
            raise
        finally:
            self.rows = self._read_rows()
            # Without this, TensorFlow would read the variable again.
            self._count.assign_add(len(self.rows), read_value=False)
            if arrays:
                iterator.position += len(self.rows)
        return self.rows

    def _read_rows(self) -> Rows:
        assert self._buffer is not None
        buffer = self._buffer.numpy()
        own = buffer[:, -1] == self._call
        return buffer[: len(own) if own.all() else int(np.argmin(own)), :-1]

    def _arrays_call(self, iterator: BatchIterator, steps: int) -> tuple[Any, list[Any]]:
        data, reader, order = iterator.batches, iterator.batches.reader, iterator.indices(steps)
        # What a transform draws at random is for the whole batch, on however many replicas.
        replicas = (self._replicas or 1) if reader.transform is None else 1
        loop = self._array_loop if replicas == 1 else self._dealt_loop
        if replicas == 1:
            given = [np.array([data.seed, iterator.epoch, iterator.position]), order]
        else:
            given = [*shard_indices(order, data.batch_size, replicas)]

        def batch(arrays: Any) -> Any:
            examples = tf.shape(tf.nest.flatten(arrays)[0], tf.int64)[0]
            return reader.gather(arrays, tf.range(examples), 0, 0, 0)

        function = self._tracer.get(
            ("arrays", reader),
            functools.partial(loop, reader),
            tf.nest.map_structure(open_spec, data.arrays),
            tf.TensorSpec([2], tf.int64),
            *(tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in given),
            batch=batch,
        )
        return function, [data.arrays, *map(tf.constant, given)]

    def _dataset_call(self, iterator: Any) -> tuple[Any, list[Any]]:
        function = self._tracer.get(
            "dataset",
            self._dataset_loop,
            iterator.element_spec,
            tf.TensorSpec([2], tf.int64),
            argument=tf.data.IteratorSpec,
        )
        return function, [iterator]

    def _one(self, batch: Any) -> tf.Tensor:
        row = self._row(batch)
        with tf.control_dependencies([row]):
            self._count.assign_add(1)
        return row

    def _array_loop(
        self, reader: BatchReader, arrays: Any, call: tf.Tensor, place: tf.Tensor, order: tf.Tensor
    ) -> None:
        seed, epoch, position = tf.unstack(place, 3)
        lazy = self._replicas is not None and reader.transform is None

        def body(step: tf.Tensor, number: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = first + reader.batch_size

            def take(indices: tf.Tensor) -> Any:
                return reader.gather(arrays, indices, seed, epoch, position + step)

            indices = _between(order, first, last)
            self._record(step, LazyBatch(indices, take) if lazy else take(indices), number)
            return step + 1, last

        # As a vector, `first` need not be packed into one for each slice.
        self._loop(call, body, tf.constant([0], tf.int64))

    def _dealt_loop(
        self,
        reader: BatchReader,
        arrays: Any,
        call: tf.Tensor,
        order: tf.Tensor,
        places: tf.Tensor,
        shares: tf.Tensor,
    ) -> None:
        """`_array_loop` for several replicas, of which each reads what `shard_indices` has dealt it."""

        def take(indices: tf.Tensor) -> Any:
            return reader.gather(arrays, indices, 0, 0, 0)  # there is no transform that asks for the place

        def body(step: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor]:
            first, last, sizes = tf.split(tf.gather(places, step), [1, 1, places.shape[1] - 2])
            indices = _between(order, first, last)
            self._record(step, LazyBatch(indices, take, sizes, tf.gather(shares, step)), number)
            return (step + 1,)

        self._loop(call, body)

    def _dataset_loop(self, iterator: Any, call: tf.Tensor) -> None:
        def body(step: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor]:
            # `next` would end the data with an error that transformations and the model may raise as well.
            batch = iterator.get_next_as_optional().get_value()
            # Without a batch, nothing of this step may have run.
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                self._record(step, batch, number)
            return (step + 1,)

        self._loop(call, body)

    def _loop(self, call: tf.Tensor, body: Callable[..., Any], *state: tf.Tensor) -> None:
        steps, number = call[0], tf.cast(call[1], tf.float32)
        tf.while_loop(
            lambda step, *_: step < steps,
            lambda step, *rest: body(step, number, *rest),
            [tf.constant(0, tf.int64), *state],
        )

    def _record(self, step: tf.Tensor, batch: Any, number: tf.Tensor) -> None:
        assert self._buffer is not None
        self._buffer.scatter_update(tf.IndexedSlices(self._row(batch, number), step))

    def _row(self, batch: Any, *number: tf.Tensor) -> tf.Tensor:
        self.traces += not tf.executing_eagerly()
        return tf.stack([*self._body(batch), *number])


def _between(order: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """`order[first:last]`, with the ends as vectors of one."""
    # Left out, the stride would be made anew in each step.
    return tf.strided_slice(order, first, last, tf.constant([1], tf.int64))


def _of_this_process(value: tf.Tensor) -> tf.Variable:
    """A variable of no strategy, in whose scope this may be called: another thread is outside of it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(tf.Variable, value, trainable=False).result()
