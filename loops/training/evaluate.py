"""Evaluating a model on all of some data."""

from __future__ import annotations

import tensorflow as tf

from ..data.batches import Batches
from ..loss.records import RunningMeans
from ..step.eval_step import EvalStep
from .epoch_reader import EpochReader


def evaluate(
    step: EvalStep, data: Batches | tf.data.Dataset, *, steps: int | None = None
) -> dict[str, float]:
    """Evaluates on all of `data` and returns the means over its examples.

    A short last batch counts for the examples that it holds.

    Args:
        step: what to evaluate.
        data: a `Batches` (read in the order of its first epoch; its `epoch` stays) or a `tf.data.Dataset`, of
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
    reader = EpochReader(data, steps, steps_name="steps", evaluates=True)
    step.reset_metrics()
    means = RunningMeans(step.loss_and_metrics.metrics)
    for records in reader.epoch(0, step, step.steps_per_call):
        means.add(records)
    return means.result()
