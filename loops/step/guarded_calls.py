"""Calls of a step's loop, with TensorFlow's errors explained in terms of the caller's arguments."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TypeVar

import keras
import tensorflow as tf

from ...optim.common.types import Array, Batch, Tensors
from ..data.arrays import unusual_data
from ..data.batches import BatchIterator, DataIterator
from ..device.batch_size import check_batch_size, state_sizes
from ..device.make_loop import Loop
from ..distribute.scope import scope_of
from ..loss.build_metrics import build_metrics
from ..loss.label_check import LabelCheck
from ..loss.labels import label_error
from ..loss.loss_and_metrics import LossAndMetrics
from .summaries import summary_error

Result = TypeVar("Result")

# Errors that kernels raise on invalid values.
_OF_DATA = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)


class GuardedCalls(abc.ABC):
    """Runs a step's loop on one batch or on many; checks labels and batch sizes first, explains errors.

    Args:
        model: the model that the step runs.
        loss_and_metrics: of the step.
        strategy: of the model, or None.
    """

    _last_loop: Loop  # the loop of the last call

    def __init__(
        self,
        model: keras.Model,
        loss_and_metrics: LossAndMetrics,
        strategy: tf.distribute.Strategy | None,
    ) -> None:
        self.loss_and_metrics = loss_and_metrics
        self.strategy = strategy
        self._labels = LabelCheck(loss_and_metrics)
        self._state_sizes = state_sizes(model)

    def _run_one(self, batch: Batch, spec: Tensors = None) -> tf.Tensor:
        labels = keras.utils.unpack_x_y_sample_weight(batch)[1]
        return self._guarded(
            lambda loop: loop.run_one(batch, lambda: self._labels.batch(labels), spec), batch
        )

    def _run_many(self, iterator: DataIterator, steps: int) -> Array:
        return self._guarded(
            lambda loop: loop.run_many(iterator, steps, lambda: self._labels.data(iterator)), iterator
        )

    def _guarded(self, run: Callable[[Loop], Result], source: DataIterator | Batch) -> Result:
        """Runs a call that reads `source`, an iterator or one batch, and explains TensorFlow's errors."""
        if self._state_sizes:
            check_batch_size(self._state_sizes, source, self.strategy)
        with scope_of(self.strategy):
            build_metrics(self.loss_and_metrics, source)
            loop = self._last_loop = self._loop()
            try:
                return run(loop)
            except (*_OF_DATA, TypeError, ValueError, AttributeError) as error:
                explained = self._explain(error, source)
                if explained is None:
                    raise
                raise explained from error

    def _explain(self, error: Exception, source: DataIterator | Batch) -> Exception | None:
        """The error to raise instead of one that a call raised; None to raise that one."""
        data = source.batches.arrays if isinstance(source, BatchIterator) else source
        explained = summary_error(error) or label_error(error, self.loss_and_metrics.classes)
        return explained or unusual_data(error, getattr(data, "element_spec", data))

    @abc.abstractmethod
    def _loop(self) -> Loop:
        """The loop that runs now."""
