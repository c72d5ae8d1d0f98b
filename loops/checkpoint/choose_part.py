"""Which `Part` saves an object of a dict."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ..step.train_step import TrainStep
from ..update.update import Update
from .callback_state import has_method, has_state
from .saved_optimizers import OptimizerPart, UpdatePart
from .saved_parts import (
    GeneratorPart,
    LayerPart,
    MetricPart,
    Part,
    SeedsPart,
    StepPart,
    VariablePart,
    are_variables,
)
from .saved_values import OwnPart, ValuePart

_PARTS: dict[Any, type[Part]] = {
    TrainStep: StepPart,
    Update: UpdatePart,
    keras.layers.Layer: LayerPart,
    keras.metrics.Metric: MetricPart,
    keras.optimizers.Optimizer: OptimizerPart,
    (keras.Variable, tf.Variable): VariablePart,
    keras.random.SeedGenerator: SeedsPart,
    tf.random.Generator: GeneratorPart,
}


def part_for(key: str, value: Any) -> Part:
    """The part for an object; TypeError for what no checkpoint can hold."""
    for types, kind in _PARTS.items():
        if isinstance(value, types):
            return kind(key, value)
    if isinstance(value, type) or not has_method(value, "state"):
        return ValuePart(key, value)
    return OwnPart(key, value) if has_state(value) and not are_variables(value.state()) else Part(key, value)
