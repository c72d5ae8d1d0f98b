"""Many steps in one call, on the device.

A call into TensorFlow from Python costs more than a small model's step, so the loop over batches is part of
the graph. What each step recorded goes to rows of a variable rather than of a loop value: whatever ends the
loop early (the end of the data, a NaN), the rows written until then are there to be read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from .batches import BatchIterator, BatchReader
from .executor import executor, nests_calls

# Rows kept between two reads: more steps than this make several calls.
CAPACITY = 4096

Rows = np.ndarray[Any, Any]


class DeviceLoop:
    """Runs `body` on one batch or on many.

    Each kind of call is traced once for a batch's dtypes and shapes. The first dimension is left open, and so
    is the number of steps: neither a short last batch nor another number of steps traces again.

    Args:
        body: function from a batch to `width` float32 scalars, built of TensorFlow operations. All it does
            must depend on the batch.
        width: how many scalars.
        inline: see `executor`; given up where the step calls functions of its own.

    Attributes:
        traces: how often `body` was traced.
    """

    def __init__(self, body: Callable[[Any], list[tf.Tensor]], width: int, inline: bool) -> None:
        self._body = body
        self._width = width
        self._inline = inline
        self._rows: tf.Variable | None = None
        self._functions: dict[Any, Any] = {}
        self.traces = 0

    def one(self, batch: Any, check: Callable[[], None]) -> tf.Tensor:
        """Runs one batch of tensors; returns its values: float32, (width,).

        Args:
            batch: a nest of tensors.
            check: called once the step is traced, before it runs.
        """
        specs = tf.nest.map_structure(_open_spec, batch)
        function = self._traced(("one", repr(specs)), self._one, [specs])
        check()
        with executor(self._inline):
            return function(batch)[:-1]

    def many(self, iterator: Any, steps: int, check: Callable[[], None]) -> Rows:
        """Runs up to `steps` batches; fewer only if the data ends.

        Args:
            iterator: a `BatchIterator` (it is moved on) or an iterator of a `tf.data.Dataset`.
            steps: at most `CAPACITY`.
            check: called once the step is traced, before it runs.

        Returns:
            float32 array, (steps that ran, width).
        """
        if self._rows is None:
            # One column more than values, 1 where a step has ended: an empty row is a step not made.
            self._rows = tf.Variable(tf.zeros([CAPACITY, self._width + 1]), trainable=False)
        arrays = isinstance(iterator, BatchIterator)
        call = self._arrays_call if arrays else self._dataset_call
        if arrays:
            steps = min(steps, iterator.remaining)
            if steps == 0:
                return np.zeros((0, self._width), np.float32)
        function, arguments = call(iterator, steps)
        check()
        try:
            with executor(self._inline):
                function(*arguments)
        except tf.errors.OutOfRangeError:
            pass
        finally:
            rows = self.rows()
            if arrays:
                iterator.position += len(rows)
        return rows

    def rows(self) -> Rows:
        """The rows of the last call of `many`, also after it failed."""
        if self._rows is None:
            return np.zeros((0, self._width), np.float32)
        rows = self._rows.numpy()
        done = rows[:, -1] > 0
        return rows[: len(rows) if done.all() else int(np.argmin(done)), :-1]

    def _arrays_call(self, iterator: BatchIterator, steps: int) -> tuple[Any, list[Any]]:
        data, reader = iterator.batches, iterator.batches.reader
        specs = tf.nest.map_structure(_open_spec, data.arrays)
        numbers = [data.examples, data.seed, iterator.epoch, iterator.position, steps]
        function = self._traced(
            ("arrays", reader, repr(specs)),
            functools.partial(self._array_loop, reader),
            [specs, tf.TensorSpec([len(numbers)], tf.int64)],
        )
        return function, [data.arrays, tf.constant(numbers, tf.int64)]

    def _dataset_call(self, iterator: Any, steps: int) -> tuple[Any, list[Any]]:
        spec = iterator.element_spec
        function = self._traced(
            ("dataset", repr(spec)), self._dataset_loop, [iterator, tf.TensorSpec([], tf.int64)]
        )
        return function, [iterator, tf.constant(steps, tf.int64)]

    def _one(self, batch: Any) -> tf.Tensor:
        return self._row(batch)

    def _array_loop(self, reader: BatchReader, arrays: Any, numbers: tf.Tensor) -> None:
        examples, seed, epoch, position, steps = tf.unstack(numbers)
        # One shuffle for the whole call: its kernel costs more to start than to run.
        order = reader.order(examples, seed, epoch, position, steps)

        def body(step: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = first + reader.batch_size
            batch = reader.gather(arrays, order[first:last], seed, epoch, position + step)
            self._record(step, batch)
            return step + 1, last

        self._loop(steps, body, tf.constant(0, tf.int64))

    def _dataset_loop(self, iterator: Any, steps: tf.Tensor) -> None:
        def body(step: tf.Tensor) -> tuple[tf.Tensor]:
            batch = next(iterator)
            # At the end of the data `next` fails: nothing of this step may have run by then.
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                self._record(step, batch)
            return (step + 1,)

        self._loop(steps, body)

    def _loop(self, steps: tf.Tensor, body: Callable[..., Any], *state: tf.Tensor) -> None:
        assert self._rows is not None
        self._rows.assign(tf.zeros_like(self._rows))
        tf.while_loop(lambda step, *_: step < steps, body, [tf.constant(0, tf.int64), *state])

    def _record(self, step: tf.Tensor, batch: Any) -> None:
        assert self._rows is not None
        self._rows.scatter_update(tf.IndexedSlices(self._row(batch), step))

    def _row(self, batch: Any) -> tf.Tensor:
        self.traces += 1
        return tf.stack([*self._body(batch), 1.0])

    def _traced(self, key: Any, function: Callable[..., Any], specs: list[Any]) -> Any:
        """The concrete function of `key`, traced on first use."""
        if key not in self._functions:
            # Without AutoGraph our own errors reach the caller as they were raised.
            with executor(self._inline):
                traced = tf.function(function, autograph=False).get_concrete_function(*specs)
            if self._inline and nests_calls(traced):
                self._inline = False
                self._functions.clear()
                traced = tf.function(function, autograph=False).get_concrete_function(*specs)
            self._functions[key] = traced
        return self._functions[key]


def _open_spec(tensor: Any) -> tf.TensorSpec:
    """A tensor's spec with the first dimension open."""
    return tf.TensorSpec([None, *tensor.shape[1:]] if tensor.shape.rank else [], tensor.dtype)
