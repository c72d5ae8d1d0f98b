"""What a step trains: the names of its variables, its optimizer and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ...optim import GroupedOptimizer, Plan, named_variables
from ...optim.common import optimizers
from .train_step import TrainStep


def names_of(step: TrainStep, variables: Sequence[Any]) -> list[str]:
    """The stable names of variables of a step's model, in the model's order."""
    ids = {id(variable) for variable in variables}
    return [name for name, variable in named_variables(step.model).items() if id(variable) in ids]


def plan_of(step: TrainStep) -> Plan | None:
    """The plan of the step's optimizer, if it has one."""
    optimizer = inner_optimizer(step)
    if not isinstance(optimizer, GroupedOptimizer):
        return None
    _ = step.variables  # an optimizer from a file is bound to the model by this
    return optimizer.plan


def inner_optimizer(step: TrainStep) -> keras.optimizers.Optimizer:
    """The step's optimizer, that within a loss scale if there is one."""
    return optimizers.inner_optimizer(step.optimizer)
