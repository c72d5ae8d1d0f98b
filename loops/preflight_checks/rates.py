"""The learning rate of each group that trains: now, and the highest that its schedule will give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from ...optim import GroupedOptimizer
from ...optim.private.keras_private import raw_learning_rate
from ..step.train_step import TrainStep
from ..step.trainable import plan_of

Schedule = keras.optimizers.schedules.LearningRateSchedule
# The updates at which a schedule is evaluated: schedules last hundreds to hundreds of thousands of updates.
_UPDATES = np.unique(np.geomspace(1, 1e6, 60).astype(int))


class TrainedGroup(NamedTuple):
    """Variables that train at one learning rate."""

    name: str  # "all" without a plan
    variables: list[keras.Variable]  # those that train
    rate: Callable[[], float]  # gives the rate of the next update
    highest: float  # the highest rate that the schedule will give; the rate itself without a schedule


def trained_groups(step: TrainStep) -> list[TrainedGroup]:
    """The groups of what a step trains, frozen ones aside."""
    optimizer, training = step.inner_optimizer, {id(variable) for variable in step.variables}
    base = raw_learning_rate(optimizer)
    plan = plan_of(step)
    if plan is None or not isinstance(optimizer, GroupedOptimizer):
        highest = _highest(base, int(optimizer.iterations.numpy()))
        return [TrainedGroup("all", list(step.variables), lambda: _rate(optimizer), highest)]
    groups = []
    for name, group in plan.groups.items():
        members = [variable for variable in plan.members[name].values() if id(variable) in training]
        if members:
            own = None if group.optimizer is None else raw_learning_rate(group.optimizer)
            source = group.learning_rate if group.learning_rate is not None else own
            highest = _highest(base if source is None else source, int(optimizer.iterations.numpy()))
            rate = _rate_of(optimizer, name)
            groups.append(TrainedGroup(name, members, rate, max(group.lr_scale * highest, rate())))
    return groups


def _rate(optimizer: keras.optimizers.Optimizer) -> float:
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _rate_of(optimizer: GroupedOptimizer, name: str) -> Callable[[], float]:
    return lambda: optimizer.learning_rates[name]


def _highest(source: Any, iterations: int) -> float:
    if isinstance(source, Schedule):
        return max(float(source(iterations + int(update))) for update in (0, *_UPDATES))
    value = source() if callable(source) else source
    return float(keras.ops.convert_to_numpy(value))
