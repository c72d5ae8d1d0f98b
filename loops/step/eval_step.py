"""The evaluation step: loss and metrics in inference mode."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ...optim.common.types import Batch
from ...optim.gradients.replicas import sum_over_replicas
from ..device.batch_size import batch_size_of
from ..device.executor import suits_one_thread
from ..device.make_loop import Loop, make_loop
from ..distribute.sharding import Shard, on_replicas
from ..loss.loss_and_metrics import Loss, Record
from ..loss.metrics import Metric
from .base_step import BaseStep
from .overridden_methods import EVALUATING


class EvalStep(BaseStep):
    """Computes the loss and metrics of batches in inference mode.

    `step(x, y)` gives those of one batch, `step.run` those of many, and `evaluate` their means over all data.
    NaN and infinity are values here, not errors.

    Args:
        model: a built `keras.Model`.
        loss: as for `TrainStep`; a function needs a parameter `training`, which is False here.
        metrics: as for `TrainStep`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a model that is not built, or with a `test_step` or the like that a Keras loss would
            leave out; an unknown name; a loss function without a parameter `training`.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step = loops.EvalStep(model, "mse", ["mae"])
        >>> sorted(step(np.ones((8, 3)), np.zeros((8, 2))))
        ['loss', 'mae']
    """

    _overridable_methods = EVALUATING

    def __init__(self, model: keras.Model, loss: Loss, metrics: Sequence[Metric] = ()) -> None:
        super().__init__(model, loss, metrics)
        self.loss_and_metrics.check_evaluates()
        loop = make_loop(
            self.strategy,
            self._body,
            self.loss_and_metrics.width,
            suits_one_thread(model),
            forward=lambda batch: self.loss_and_metrics(batch, training=False)[1],
            count=self.batches_done,
            made_for=batch_size_of(model),
            columns=lambda: self.loss_and_metrics.columns,
        )
        self._loops.append(loop)

    def write_summaries_as_validation(self, number: int) -> None:
        """Lets `tf.summary` write under `validation/`, at the steps after this number, beside training's."""
        self._loops[0].scope = "validation/"
        self.batches_done.assign(number)

    def _body(self, batch: Batch) -> Record:
        record = on_replicas(self.strategy, self._replica_step, batch)
        return record if self.strategy is None else self.loss_and_metrics.completed(record)

    def _replica_step(self, batch: Batch, shard: Shard | None) -> Record:
        record = self.loss_and_metrics(batch, training=False, shard=shard)[1]
        return record if shard is None else tf.unstack(sum_over_replicas([tf.stack(record)])[0])

    def _loop(self) -> Loop:
        return self._loops[0]
