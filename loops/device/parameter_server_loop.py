"""Many steps at once, on the workers of parameter servers."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Batch, Scalar, Tensors
from ..data.arrays import map_tensors
from ..data.batch_reader import BatchReader
from ..data.batches import Batches, BatchIterator, DataIterator
from ..support.global_seed_generator import tracing_with_global_seed_generator
from ..support.scalars import Columns
from .dynamic_batch_size import DynamicBatchSize
from .step_count import StepCount
from .trace_cache import Traced, dynamic_batch_spec

# About so many tasks a worker make a call, so that the others do not wait long for a slow worker.
_TASKS_PER_WORKER = 4


class ParameterServerLoop(DynamicBatchSize):
    """Runs `body` on the workers of a `tf.distribute.ParameterServerStrategy`; otherwise like `DeviceLoop`.

        cut the steps of a call into tasks, some for each worker
        schedule them; workers run them, each on the weights that are on the servers at the time
        return the rows of all tasks in the order of the batches

    TensorFlow gives the unfinished task of a worker that died to another one.

    Attributes:
        traces: how often `body` was traced.
        traced: None: workers trace.
        rows: what the last call of `many` returned; none if it failed, since it is not known what was done.
    """

    scope = ""  # as that of `DeviceLoop`, of no use: a worker has no writer

    def __init__(
        self,
        body: Callable[[Batch], list[Scalar]],
        width: int,
        strategy: tf.distribute.Strategy,
        count: tf.Variable,
        columns: Callable[[], Columns] = tuple,
    ) -> None:
        super().__init__()
        self._body = body
        self._width = width
        self._columns = columns
        self._count = StepCount(count)
        self._strategy = strategy
        self._one = tf.function(self._row, autograph=False, reduce_retracing=True)
        self._one_of_size = tf.function(self._row, autograph=False)
        self._loops: dict[BatchReader, Callable[..., tf.Tensor]] = {}
        self._traced: dict[object, Columns] = {}  # by what was traced
        self._sources: dict[int, tuple[Batches, Iterator[Tensors]]] = {}
        self.traced: Traced | None = None
        self.rows: Array = np.zeros((0, width), np.float32)
        self.columns: Columns = ()

    def run_one(self, batch: Batch, check: Callable[[], None], spec: Tensors = None) -> tf.Tensor:
        """Runs one batch of tensors on a worker; returns its values: float32, (width + columns,).

        `spec` is not used: TensorFlow retraces for a new shape, and then for any.
        """
        check()
        coordinator = self._coordinator()

        def trace(fixed: bool) -> Traced:
            if fixed:
                return self._one_of_size.get_concrete_function(batch)
            return self._one.get_concrete_function(map_tensors(dynamic_batch_spec, batch))

        with tracing_with_global_seed_generator():
            function = self.trace_dynamic_or_fixed(trace)
        self.columns = self._traced.setdefault(function, self._columns())
        row = coordinator.schedule(function, args=(batch,))
        coordinator.join()
        self._count.add(1)
        return tf.constant(row.fetch())

    def run_many(self, iterator: DataIterator, steps: int, check: Callable[[], None]) -> Array:
        """Like `DeviceLoop.many`; raises ValueError for any iterator but a `BatchIterator`."""
        self.rows, self.columns = np.zeros((0, self._width), np.float32), ()
        if not isinstance(iterator, BatchIterator):
            raise ValueError(
                f"`iterator` is {type(iterator).__name__}: on parameter servers each worker picks its own "
                "batches, which only a `loops.Batches` allows. Read the dataset into arrays."
            )
        steps = min(steps, iterator.remaining)
        if steps == 0:
            return self.rows
        check()
        self._count.start_call()
        results = self.trace_dynamic_or_fixed(lambda fixed: self._scheduled(iterator, steps, fixed))
        self._coordinator().join()
        self.rows = np.concatenate([result.fetch() for result in results])
        self._count.end_call(steps)
        iterator.position += steps
        return self.rows

    def _scheduled(self, iterator: BatchIterator, steps: int, fixed: bool) -> list[Any]:
        """Schedules the next steps, batches of each size by themselves if `fixed`; returns rows to come."""
        data, results = iterator.batches, []
        place, end = data.iterator(iterator.epoch, iterator.position), iterator.position + steps
        while place.position < end:
            left = end - place.position
            reader, part = place.of_one_size(left) if fixed else (data.reader, left)
            with contextlib.nullcontext() if reader in self._traced else tracing_with_global_seed_generator():
                results += self._tasks(place, reader, part)
            self.columns = self._traced.setdefault(reader, self._columns())
            place.position += part
        return results

    def _tasks(self, iterator: BatchIterator, reader: BatchReader, steps: int) -> list[Any]:
        """Schedules the next steps as tasks of a function that may be traced now."""
        data, coordinator, results = iterator.batches, self._coordinator(), []
        function, arrays, order = self._function(reader), self._arrays(data), iterator.indices(steps)
        size = max(1, -(-steps // (_TASKS_PER_WORKER * self._workers())))
        for done in range(0, steps, size):
            part = order[done * data.batch_size : (done + size) * data.batch_size]
            task = [data.seed, iterator.epoch, iterator.position + done, min(size, steps - done)]
            # As bytes, since a vector of another length would cause a retrace.
            arguments = arrays, tf.constant(part.tobytes()), tf.constant(task, tf.int64)
            results.append(coordinator.schedule(function, args=arguments))
        return results

    def _coordinator(self) -> tf.distribute.coordinator.ClusterCoordinator:
        # TensorFlow makes one for each strategy, and returns that.
        return tf.distribute.coordinator.ClusterCoordinator(self._strategy)

    def _workers(self) -> int:
        devices = [device.name for device in tf.config.list_logical_devices()]
        return len({name.partition("/device:")[0] for name in devices if "/job:worker" in name})

    def _arrays(self, data: Batches) -> Iterator[Tensors]:
        """The arrays of `data` on each worker, sent once."""
        if id(data) not in self._sources:
            dataset = tf.data.Dataset.from_tensors(data.arrays).repeat()
            self._sources[id(data)] = data, iter(self._coordinator().create_per_worker_dataset(dataset))
        return self._sources[id(data)][1]

    def _function(self, reader: BatchReader) -> Callable[..., tf.Tensor]:
        if reader not in self._loops:
            self._loops[reader] = tf.function(functools.partial(self._loop, reader), autograph=False)
        return self._loops[reader]

    def _loop(
        self, reader: BatchReader, per_worker: Iterator[Tensors], order: tf.Tensor, task: tf.Tensor
    ) -> tf.Tensor:
        """Runs the steps of a task; returns their rows.

        Args:
            per_worker: gives the worker's copy of the data.
            order: the indices of the examples of all steps, int64, as bytes.
            task: seed, epoch, position of the first batch, and how many steps: int64, (4,).
        """
        seed, epoch, position, steps = tf.unstack(task)
        arrays = next(per_worker)
        order = tf.io.decode_raw(order, tf.int64)

        def body(step: tf.Tensor, first: tf.Tensor, rows: tf.TensorArray) -> tuple[tf.Tensor, ...]:
            last = first + reader.batch_size
            indices = tf.strided_slice(order, first, last)
            row = self._row(reader.gather(arrays, indices, seed, epoch, position + step))
            self._count.after_step(row)
            return step + 1, last, rows.write(tf.cast(step, tf.int32), row)

        rows = tf.TensorArray(tf.float32, tf.cast(steps, tf.int32), element_shape=[None])
        state = [tf.constant(0, tf.int64), tf.constant([0], tf.int64), rows]
        return tf.while_loop(lambda step, *_: step < steps, body, state)[2].stack()

    def _row(self, batch: Batch) -> tf.Tensor:
        self.traces += 1
        return tf.stack(self._body(batch))
