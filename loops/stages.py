"""The stages of gradual unfreezing: what trains from which time on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ..optim import GroupedOptimizer, Plan, depths, select
from ..optim.filters import as_filter
from ..optim.matching import brief, shortened
from .step import TrainStep

_EVERYTHING = "*"


def checked_stages(stages: Any) -> dict[int, Any]:
    """Stages whose times and filters can be such; else an error that says which is none."""
    if not isinstance(stages, Mapping):
        raise TypeError(
            "`stages` must map times to filters, such as {0: 'head', 2: 'block5*', 4: all}, not "
            f"{brief(stages)}."
        )
    if not stages:
        raise ValueError(
            "`stages` is empty: name at least one, or leave it out to unfreeze from the top down."
        )
    for when, what in stages.items():
        if isinstance(when, bool) or not isinstance(when, (int, np.integer)):
            raise TypeError(f"`stages` has the time {when!r}, which is no whole number.")
        if when < 0:
            raise ValueError(f"`stages` has the time {when!r}; times count from 0.")
        if isinstance(what, (list, tuple)) and not what:
            raise ValueError(f"`stages` has nothing at time {when!r}: name what trains, or leave it out.")
        for spec in _filters(what):
            as_filter(spec)
    return {int(when): what for when, what in stages.items()}


def _filters(what: Any) -> tuple[Any, ...]:
    several = what if isinstance(what, (list, tuple)) else (what,)
    return tuple(_EVERYTHING if spec is all else spec for spec in several)


def shown(what: Any) -> str:
    """What a stage unfreezes, for people."""
    texts = [spec if isinstance(spec, str) else repr(spec) for spec in _filters(what)]
    return shortened(["everything" if text == _EVERYTHING else text for text in texts])


def stage_variables(step: TrainStep, what: Any, plan: Plan | None) -> list[Any]:
    """The variables of a stage. A group's name means the group; all else is a filter."""
    variables: list[Any] = []
    for spec in _filters(what):
        if plan is not None and isinstance(spec, str) and spec in plan.groups:
            variables += plan.members[spec].values()
        else:
            variables += select(step.model, spec)
    return variables


def top_down(step: TrainStep, every: int, end: int | None) -> dict[int, Any]:
    """Stages from the top of the model down."""
    plan = plan_of(step)
    runs: list[Any]
    if plan is not None and len(plan.groups) > 1:
        place = {name: index for index, name in enumerate(plan.order)}
        runs = [name for name, group in plan.groups.items() if not group.frozen]
        runs.sort(key=lambda name: max(place[member] for member in plan.members[name]))
    else:
        runs = list(depths(step.model))
    if len(runs) < 2:
        raise ValueError(
            "`Unfreeze` has nothing to unfreeze: apart from what the optimizer's plan freezes, the model is "
            "one group or layer. Name what is to train as well, such as `Unfreeze({0: 'head', 2: all})`."
        )
    number = len(runs) if end is None else min(len(runs), math.ceil(end / every))
    # The top, which is new, begins alone where it can: longer runs are those at the bottom.
    parts = [[runs[index] for index in part] for part in np.array_split(np.arange(len(runs)), number)]
    return {place * every: part for place, part in enumerate(reversed(parts))}


def inner_optimizer(step: TrainStep) -> keras.optimizers.Optimizer:
    return getattr(step.optimizer, "inner_optimizer", step.optimizer)


def plan_of(step: TrainStep) -> Plan | None:
    """The plan of the step's optimizer, if it has one."""
    optimizer = inner_optimizer(step)
    if not isinstance(optimizer, GroupedOptimizer):
        return None
    _ = step.variables  # an optimizer from a file is bound to the model by this
    return optimizer.plan
