"""Evaluating on all of some data: a model by itself, and a run after each epoch."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from ...optim.gradients.totals import assign_values
from ..callbacks.keras_bridge import wants_every_test_step
from ..callbacks.run_callbacks import RunCallbacks
from ..data.batches import Batches
from ..device.steps_per_call import StepsPerCall
from ..distribute.scope import scope_of
from ..loss.records import RunningMeans
from ..step.eval_step import EvalStep
from ..step.train_step import TrainStep
from ..step.untracked import untracked_variables
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
        Name -> mean: of the loss, the metrics, and what the step gave to `loops.record`.

    Raises:
        TypeError: `step` is no `EvalStep` (a `TrainStep` would train), or `data` is neither a `Batches` nor a
            `tf.data.Dataset`.
        ValueError: no data, or endless data without `steps`.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "relu")])
        >>> step = loops.EvalStep(model, "mse")
        >>> loops.evaluate(step, loops.Batches(np.zeros((10, 3)), np.ones((10, 2)), 4))
        {'loss': 1.0}
    """
    if not isinstance(step, EvalStep):
        raise TypeError(
            f"`step` must be a `loops.EvalStep`, not {step!r}: make one of the model and the loss, "
            "`loops.EvalStep(model, loss, metrics)`."
        )
    reader = EpochReader(data, steps, steps_name="steps", evaluates=True)
    return _evaluate(step, reader, RunCallbacks(), lambda: None)


class Validation:
    """The training step's loss and metrics over other data, in inference mode.

    Metrics with a state are the training step's own, since a metric cannot always be copied (its config need
    not hold all that it was made with). The state that training had is restored afterwards, and so that of
    layers which Keras does not track: the states of stateful RNNs.
    """

    def __init__(self, step: TrainStep, data: Batches | tf.data.Dataset) -> None:
        with scope_of(step.strategy):
            self._step = EvalStep(step.model, step.loss, step.metrics)
        self._reader = EpochReader(data, name="validation", steps_name=None, evaluates=True)
        self._trained = step.batches_done

    def __call__(self, hooks: RunCallbacks, after_call: Callable[[], None]) -> dict[str, float]:
        """Evaluates; calls `after_call` after each call on the device."""
        states = [(variable, variable.numpy()) for variable in self._written]
        self._step.write_summaries_as_validation(int(self._trained.numpy()))
        try:
            return _evaluate(self._step, self._reader, hooks, after_call)
        finally:
            assign_values(states)

    @functools.cached_property
    def _written(self) -> list[keras.Variable | tf.Variable]:
        """What an evaluation writes, all of which is there once a step of training has run."""
        state = self._step.state().items()
        metrics = [variable for name, variable in state if name.startswith("metrics/")]
        return [*metrics, *(variable for _, variable in untracked_variables(self._step.model))]


def _evaluate(
    step: EvalStep, reader: EpochReader, hooks: RunCallbacks, after_call: Callable[[], None]
) -> dict[str, float]:
    step.reset_metrics()
    means, batch = RunningMeans(step.loss_and_metrics.metrics), 0
    each = any(wants_every_test_step(callback) for callback in hooks.callbacks)
    begin = (lambda: hooks.on_test_batch_begin(batch)) if each else None
    hooks.on_test_begin()
    for records in reader.epoch(0, step, StepsPerCall(1) if each else step.steps_per_call, begin):
        means.add(records)
        batch += len(records)
        if each:
            hooks.on_test_batch_end(batch - 1, means.result())
        hooks.on_test_steps_end(batch, reader.steps)
        after_call()
    logs = means.result()
    hooks.on_test_end(logs)
    return logs
