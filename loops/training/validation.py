"""Validation after an epoch of training."""

from __future__ import annotations

from typing import Any

import keras

from ..callbacks.keras_bridge import wants_every_test_step
from ..device.steps_per_call import StepsPerCall
from ..distribute.scope import scope_of
from ..loss.records import RunningMeans
from ..step.eval_step import EvalStep
from ..step.train_step import TrainStep
from .epoch_reader import EpochReader


class Validation:
    """The training step's loss and metrics over other data, in inference mode.

    Metrics that keep a state are shared with training, which cannot copy them (a metric's configuration
    need not say all that it was made with): their training state is put back afterwards.
    """

    def __init__(self, step: TrainStep, data: Any) -> None:
        with scope_of(step.strategy):
            self._step = EvalStep(step.model, step.loss, step.metrics)
        self._feed = EpochReader(data, name="validation", steps_name=None, evaluates=True)

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
        pace = StepsPerCall(1) if each else self._step.steps_per_call
        for records in self._feed.epoch(0, self._step, pace, begin):
            means.add(records)
            batch += len(records)
            if each:
                hooks.on_test_batch_end(batch - 1, means.result())
        logs = means.result()
        hooks.on_test_end(logs)
        return logs
