"""Metrics that a model's layers hold and update themselves, in their forward pass."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from ...optim.common.types import Scalar, Tensors
from ..support.keras_private import layer_metrics
from .metrics import StepMetric


class LayerMetric(StepMetric):
    """One of them: recorded after each step, and shown in logs once a forward pass has updated it."""

    def __init__(self, name: str, metric: keras.metrics.Metric) -> None:
        super().__init__(name, stateful=metric)
        self.shown = False

    def __call__(self, *_: Tensors) -> tuple[Scalar, Scalar]:
        return self.result()

    def result(self) -> tuple[Scalar, Scalar]:
        assert self.stateful is not None
        if self.shown:
            try:
                return super().result()
            except ValueError:
                warnings.warn(
                    f"`model` has a layer with the metric {self.name!r}, whose result is no scalar, so it is "
                    "not in the logs: read it from the layer, `metric.result()`.",
                    stacklevel=2,
                )
                self.shown = False
        return tf.constant(0.0), tf.constant(0.0)


def resolve_layer_metrics(model: keras.Model, others: Sequence[StepMetric]) -> list[LayerMetric]:
    """Returns a `LayerMetric` for each metric that a layer holds, those aside that are among the `others`."""
    taken = {id(other.stateful) for other in others}
    names = ["loss", *(other.name for other in others)]
    found = []
    for metric in layer_metrics(model):
        if id(metric) not in taken:
            number, name = 0, metric.name
            while name in names:
                number += 1
                name = f"{metric.name}_{number}"
            names.append(name)
            found.append(LayerMetric(name, metric))
    return found


@contextlib.contextmanager
def detect_updates(held: Sequence[LayerMetric]) -> Iterator[None]:
    """Runs the body, a forward pass, and notices which of the metrics it updates.

    A model may hold metrics that only a `train_step` of its own updates; these would stay 0 in the logs.
    """

    def patched(metric: LayerMetric, update: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(update)
        def noticing(*args: Any, **kwargs: Any) -> Any:
            metric.shown = True
            return update(*args, **kwargs)

        return noticing

    for metric in held:
        assert metric.stateful is not None
        if not metric.shown:
            # The instance's attribute hides the method of the class.
            vars(metric.stateful)["update_state"] = patched(metric, metric.stateful.update_state)
    try:
        yield
    finally:
        for metric in held:
            vars(metric.stateful).pop("update_state", None)  # another replica may have been here
