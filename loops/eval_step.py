"""Evaluating a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ..optim.replicas import sum_over_replicas
from .base_step import BaseStep
from .executor import runs_inline
from .feed import Feed
from .make_loop import Loop, make_loop
from .measures import Means
from .objective import Loss, Scalars
from .share import Share, on_replicas


class EvalStep(BaseStep):
    """The loss and metrics of batches, in inference mode.

    Args:
        model: a built `keras.Model`.
        loss: as for `TrainStep`; a function needs a parameter `training`, which is False here.
        metrics: as for `TrainStep`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a model that is not built, an unknown name, or a loss function that cannot be told
            that it is not training.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step = loops.EvalStep(model, "mse", ["mae"])
        >>> sorted(step(np.ones((8, 3)), np.zeros((8, 2))))
        ['loss', 'mae']
    """

    def __init__(self, model: keras.Model, loss: Loss, metrics: Sequence[Any] = ()) -> None:
        super().__init__(model, loss, metrics)
        self.objective.check_evaluates()
        self._device_loop = make_loop(
            self.strategy,
            self._body,
            self.objective.width,
            runs_inline(model),
            forward=self._forward,
            count=self.batches_done,
        )

    def _forward(self, batch: Any) -> Scalars:
        return self.objective(batch, training=False)[1]

    def _body(self, batch: Any) -> Scalars:
        record = on_replicas(self.strategy, self._one, batch)
        return record if self.strategy is None else self.objective.completed(record)

    def _one(self, batch: Any, share: Share | None) -> Scalars:
        record = self.objective(batch, training=False, share=share)[1]
        return record if share is None else tf.unstack(sum_over_replicas([tf.stack(record)])[0])

    def _loop(self) -> Loop:
        return self._device_loop

    def _all_loops(self) -> list[Loop]:
        return [self._device_loop]


def evaluate(step: EvalStep, data: Any, *, steps: int | None = None) -> dict[str, float]:
    """Evaluates on all of `data` and returns the means over its examples.

    A short last batch counts for the examples that it holds.

    Args:
        step: what to evaluate.
        data: a `Batches` (read in the order of its first epoch, and not moved) or a `tf.data.Dataset`, of
            `(x, y)` or `(x, y, sample_weight)`.
        steps: how many batches; None for all.

    Returns:
        Name -> mean.

    Raises:
        ValueError: no data, or endless data without `steps`.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "relu")])
        >>> step = loops.EvalStep(model, "mse")
        >>> loops.evaluate(step, loops.Batches(np.zeros((10, 3)), np.ones((10, 2)), 4))
        {'loss': 1.0}
    """
    feed = Feed(data, steps, steps_name="steps", evaluates=True)
    step.reset_metrics()
    means = Means(step.objective.measures)
    for records in feed.epoch(0, step, step.pace):
        means.add(records)
    return means.result()
