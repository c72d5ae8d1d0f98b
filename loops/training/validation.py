"""Validation after an epoch of training."""

from __future__ import annotations

import keras
import tensorflow as tf

from ..callbacks.keras_bridge import wants_every_test_step
from ..data.batches import Batches
from ..device.steps_per_call import StepsPerCall
from ..distribute.scope import scope_of
from ..loss.records import RunningMeans
from ..step.eval_step import EvalStep
from ..step.train_step import TrainStep
from .epoch_reader import EpochReader


class Validation:
    """The training step's loss and metrics over other data, in inference mode.

    Metrics with a state are the training step's own, since a metric cannot always be copied (its config need
    not hold all that it was made with). The state that training had is restored afterwards.
    """

    def __init__(self, step: TrainStep, data: Batches | tf.data.Dataset) -> None:
        with scope_of(step.strategy):
            self._step = EvalStep(step.model, step.loss, step.metrics)
        self._reader = EpochReader(data, name="validation", steps_name=None, evaluates=True)

    def __call__(self, hooks: keras.callbacks.CallbackList) -> dict[str, float]:
        metrics = [metric for metric in self._step.metrics if isinstance(metric, keras.Metric)]
        states = [(variable, variable.numpy()) for m in metrics for variable in m.variables]
        try:
            return self._evaluate(hooks)
        finally:
            for variable, state in states:
                variable.assign(state)

    def _evaluate(self, hooks: keras.callbacks.CallbackList) -> dict[str, float]:
        self._step.reset_metrics()
        means, batch = RunningMeans(self._step.loss_and_metrics.metrics), 0
        each = any(wants_every_test_step(callback) for callback in hooks.callbacks)
        begin = (lambda: hooks.on_test_batch_begin(batch)) if each else None
        hooks.on_test_begin()
        steps_per_call = StepsPerCall(1) if each else self._step.steps_per_call
        for records in self._reader.epoch(0, self._step, steps_per_call, begin):
            means.add(records)
            batch += len(records)
            if each:
                hooks.on_test_batch_end(batch - 1, means.result())
        logs = means.result()
        hooks.on_test_end(logs)
        return logs
