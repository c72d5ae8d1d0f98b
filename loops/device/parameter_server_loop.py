"""Many steps at once, on the workers of parameter servers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ..data.batches import Batches, BatchIterator, BatchReader
from .device_loop import Rows

# Each worker gets about so many shares of a call, so that a slow one does not keep the others waiting long.
_SHARES = 4


class ParameterServerLoop:
    """Runs `body` on the workers of a `tf.distribute.ParameterServerStrategy`; otherwise like `DeviceLoop`.

    The batches of a call are dealt out in runs of some, which workers take and make as they come: an update
    starts from whatever weights are on the servers then. TensorFlow gives what a worker had not finished when
    it died to another one.

    Args:
        body: function from a batch to `width` float32 scalars.
        width: how many scalars.
        strategy: whose workers run the steps.
        count: int64 variable; the number of steps that ran is added to it.

    Attributes:
        traces: how often `body` was traced.
        rows: what the last call of `many` returned; none if it failed, as nothing tells what was done then.
    """

    def __init__(
        self,
        body: Callable[[Any], list[tf.Tensor]],
        width: int,
        strategy: tf.distribute.Strategy,
        count: tf.Variable,
    ) -> None:
        self._body = body
        self._width = width
        self._count = count
        self._strategy = strategy
        self._functions: dict[Any, Any] = {}
        self._sources: dict[int, tuple[Batches, Any]] = {}
        self.traces = 0
        self.rows: Rows = np.zeros((0, width), np.float32)

    def one(self, batch: Any, check: Callable[[], None], spec: Any = None) -> tf.Tensor:
        """Runs one batch of tensors on a worker; returns its values: float32, (width,).

        `spec` is of no use here: TensorFlow traces for a shape that is new, and then for any.
        """
        check()
        if "one" not in self._functions:
            self._functions["one"] = tf.function(self._row, autograph=False, reduce_retracing=True)
        coordinator = self._coordinator()
        row = coordinator.schedule(self._functions["one"], args=(batch,))
        coordinator.join()
        self._count.assign_add(1)
        return tf.constant(row.fetch())

    def many(self, iterator: Any, steps: int, check: Callable[[], None]) -> Rows:
        """Runs up to `steps` batches; fewer only if the data ends.

        Args:
            iterator: a `BatchIterator`; it is moved on.
            steps: how many.
            check: called before the steps run.

        Returns:
            float32 array, (steps that ran, width), in the order of the batches.

        Raises:
            ValueError: another iterator.
        """
        self.rows = np.zeros((0, self._width), np.float32)
        if not isinstance(iterator, BatchIterator):
            raise ValueError(
                f"`iterator` is {type(iterator).__name__}: on parameter servers each worker picks its own "
                "batches, which only a `loops.Batches` allows. Read the dataset into arrays."
            )
        steps = min(steps, iterator.remaining)
        if steps == 0:
            return self.rows
        check()
        data, coordinator = iterator.batches, self._coordinator()
        function, arrays = self._function(data.reader), self._arrays(data)
        run = max(1, -(-steps // (_SHARES * self._workers())))
        order, results = iterator.indices(steps), []
        for done in range(0, steps, run):
            part = order[done * data.batch_size : (done + run) * data.batch_size]
            place = [data.seed, iterator.epoch, iterator.position + done, min(run, steps - done)]
            # As bytes, since a vector of another length would be another trace.
            arguments = arrays, tf.constant(part.tobytes()), tf.constant(place, tf.int64)
            results.append(coordinator.schedule(function, args=arguments))
        coordinator.join()
        self.rows = np.concatenate([result.fetch() for result in results])
        self._count.assign_add(steps)
        iterator.position += steps
        return self.rows

    def _coordinator(self) -> Any:
        # TensorFlow keeps one a strategy.
        return tf.distribute.coordinator.ClusterCoordinator(self._strategy)

    def _workers(self) -> int:
        devices = [device.name for device in tf.config.list_logical_devices()]
        return len({name.partition("/device:")[0] for name in devices if "/job:worker" in name})

    def _arrays(self, data: Batches) -> Any:
        """The arrays of `data` on each worker, sent once."""
        if id(data) not in self._sources:
            dataset = tf.data.Dataset.from_tensors(data.arrays).repeat()
            self._sources[id(data)] = data, iter(self._coordinator().create_per_worker_dataset(dataset))
        return self._sources[id(data)][1]

    def _function(self, reader: BatchReader) -> Any:
        if reader not in self._functions:
            self._functions[reader] = tf.function(functools.partial(self._loop, reader), autograph=False)
        return self._functions[reader]

    def _loop(self, reader: BatchReader, arrays: Any, order: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        seed, epoch, position, steps = tf.unstack(place)
        arrays = next(arrays)
        order = tf.io.decode_raw(order, tf.int64)

        def body(step: tf.Tensor, first: tf.Tensor, rows: tf.TensorArray) -> tuple[Any, Any, Any]:
            last = first + reader.batch_size
            indices = tf.strided_slice(order, first, last)
            row = self._row(reader.gather(arrays, indices, seed, epoch, position + step))
            return step + 1, last, rows.write(tf.cast(step, tf.int32), row)

        rows = tf.TensorArray(tf.float32, tf.cast(steps, tf.int32), element_shape=[self._width])
        state = [tf.constant(0, tf.int64), tf.constant([0], tf.int64), rows]
        return tf.while_loop(lambda step, *_: step < steps, body, state)[2].stack()

    def _row(self, batch: Any) -> tf.Tensor:
        self.traces += 1
        return tf.stack(self._body(batch))
