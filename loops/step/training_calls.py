"""The calls of a `TrainStep`: watched or plain steps, and gradients that are left when the data ends."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ...optim.common.types import Array, Batch
from ..data.batches import DataIterator
from ..device.make_loop import Loop
from ..distribute.scope import is_asynchronous
from ..update.nonfinite import NonFiniteError, nonfinite_inputs
from .base_step import BaseStep
from .compiled_step import CompiledStep
from .compiled_steps import CompiledSteps
from .end_of_data import EndOfData
from .watch import Watch
from .watcher import PerWatch, Watcher


class TrainingCalls(BaseStep):
    """The half of a `TrainStep` that runs steps; `TrainStep` itself constructs the objects that it uses.

        before each call: either the next step is watched and runs alone, or all steps before the next watched
        one run them, in the graph for the variables that train now
        when the data ends: apply the accumulated gradients

    Attributes:
        accumulate, carry, optimizer: as for `TrainStep`.
    """

    accumulate: int
    carry: bool
    optimizer: keras.optimizers.Optimizer
    _steps: CompiledSteps
    watcher: Watcher
    _end: EndOfData

    @property
    def waiting(self) -> int:
        """How many batches were accumulated and not applied yet; skipped steps do not count."""
        return self._steps.current().update.waiting if self.accumulate > 1 else 0

    def flush(self) -> int:
        """Applies gradients that were accumulated and not applied yet, as the mean over their batches.

        Returns:
            The number of these batches; if it is 0, nothing changes.

        Example:
            >>> import keras, numpy as np
            >>> from gradloop import loops
            >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
            >>> step = loops.TrainStep(model, "mse", "sgd", accumulate=4)
            >>> for _ in range(6):
            ...     _ = step(np.ones((8, 3)), np.zeros((8, 2)))
            >>> int(step.optimizer.iterations.numpy()), step.waiting
            (1, 2)
            >>> step.flush(), int(step.optimizer.iterations.numpy()), step.waiting
            (2, 2, 0)
        """
        batches = self.waiting
        if batches:
            self._steps.current().update.flush()
        return batches

    def end_of_data(self) -> None:
        if self.accumulate > 1 and not self.carry:
            self._end.report_applied(self.flush())

    def report_waiting(self) -> None:
        """Prints how many batches wait for an update, if any do; `train` calls it when a run ends."""
        self._end.report_waiting(self.waiting)

    def _after_run(self, iterator: DataIterator, requested: int, ran: int) -> None:
        if self.accumulate > 1 and not self.carry and self._end.reached(iterator, requested, ran):
            self.end_of_data()

    def watch(self, watches: Sequence[Watch]) -> None:
        """Starts measuring, until `unwatch`; `train` calls both.

        A watched step runs in a graph of its own, which is traced for the first of them.

        Args:
            watches: what to measure; `Records.measured` has the results of each watched step in this order.

        Raises:
            TypeError, ValueError: an interval that is no whole number of at least 1.
            SelectionError: a filter that matches nothing.
        """
        self.watcher.start(watches, self.mean_over_workers, is_asynchronous(self.strategy))

    def unwatch(self) -> None:
        """Stops measuring."""
        self.watcher.stop()

    def _steps_in_next_call(self, steps: int) -> int:
        return self.watcher.steps_in_next_call(
            steps, lambda: int(self.batches_done.value().numpy()), lambda: self.waiting
        )

    def _measured(self, rows: Array, first: int) -> list[tuple[int, PerWatch]]:
        meters = None if self.watcher.request is None else self._current().meters
        return [(first, measured) for measured in self.watcher.measured(rows, meters)]

    def _current(self) -> CompiledStep:
        return self._steps.current(self.watcher.request)

    def _loop(self) -> Loop:
        return self._current().loop

    def _explain(self, error: Exception, source: DataIterator | Batch) -> Exception | None:
        explained = super()._explain(error, source)
        if explained is None:
            explained = NonFiniteError.from_tensorflow(
                error, self.optimizer, lambda: nonfinite_inputs(source)
            )
        if explained is not None and isinstance(error, tf.errors.OpError):  # the step ran
            self._current().state.restore()
        return explained
