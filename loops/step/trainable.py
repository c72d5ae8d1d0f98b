"""The names of the variables that a step trains, and the plan of its optimizer."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from ...optim import GroupedOptimizer, Plan
from .train_step import TrainStep


def names_of(step: TrainStep, variables: Sequence[keras.Variable]) -> list[str]:
    """The stable names of variables of a step's model, in the model's order."""
    ids = {id(variable) for variable in variables}
    return [info.name for info in step.named.tree.infos if id(info.variable) in ids]


def plan_of(step: TrainStep) -> Plan | None:
    """The plan of the step's optimizer, if it has one."""
    if not isinstance(step.inner_optimizer, GroupedOptimizer):
        return None
    _ = step.variables  # binds an optimizer that was loaded from a file to the model
    return step.inner_optimizer.plan
