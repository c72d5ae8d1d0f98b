"""The schedule of gradual unfreezing: the stages, each with its time and the variables that it unfreezes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict

import keras
import numpy as np

from ...optim import FilterLike, Plan, depths, select
from ...optim.common.messages import first_few, short_repr
from ...optim.filters.base import as_filter
from ..step.train_step import TrainStep
from ..step.trainable import names_of, plan_of
from ..support.keras_private import knows_variable
from .plateau import PlateauState

# What a stage unfreezes; all stages, by their times.
StageFilters: TypeAlias = FilterLike | Sequence[FilterLike]
Stages: TypeAlias = Mapping[int, StageFilters]

_EVERYTHING = "*"


class Stage(NamedTuple):
    """Variables that also train from the time `when` on; `text` describes them in messages."""

    when: int
    text: str
    variables: list[keras.Variable]


class UnfreezeState(TypedDict):
    """The state of an `Unfreeze`, as JSON."""

    # Names of the variables that trained at first; empty with a stage at time 0, None before training.
    base: list[str] | None
    span: Sequence[int] | None  # top down by steps: first step of the schedule, and number of stages
    plateau: PlateauState | None


def checked_stages(stages: Stages) -> dict[int, StageFilters]:
    """The stages, checked: TypeError or ValueError names one whose time or filter is invalid."""
    if not isinstance(stages, Mapping):
        raise TypeError(
            "`stages` must map times to filters, such as {0: 'head', 2: 'block5*', 4: all}, not "
            f"{short_repr(stages)}."
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


def _filters(what: StageFilters) -> list[FilterLike]:
    several = what if isinstance(what, (list, tuple)) else (what,)
    return [_EVERYTHING if spec is all else spec for spec in several]


def _description(what: StageFilters) -> str:
    texts = [spec if isinstance(spec, str) else repr(spec) for spec in _filters(what)]
    return first_few(["everything" if text == _EVERYTHING else text for text in texts])


def resolve_stages(step: TrainStep, stages: Stages) -> list[Stage]:
    """The stages with the variables of a step's model, in the order of time.

    Raises SelectionError if a stage matches nothing, or only variables with `trainable=False`; ValueError if
    the optimizer was built without variables of a stage.
    """
    plan = plan_of(step)
    resolved = [
        Stage(when, _description(what), _variables(step, what, plan)) for when, what in sorted(stages.items())
    ]
    optimizer = step.inner_optimizer
    if optimizer.built:  # else the step builds it over all trainable variables
        for when, text, variables in resolved:
            unknown = [variable for variable in variables if not knows_variable(optimizer, variable)]
            if unknown:
                raise ValueError(
                    f"`stages` has {text} from time {when} on, and the optimizer was built without "
                    f"{first_few(names_of(step, unknown))}, so it has no state for them. Build it over all "
                    "variables, `optimizer.build(model.trainable_variables)`, or leave that to `TrainStep`; "
                    "an `optim.GroupedOptimizer` knows all variables of its plan."
                )
    return resolved


def check_end(stages: Stages, by: str, end: int) -> None:
    """Raises ValueError if the last stage begins after the end of the run."""
    last = max(stages)
    if last >= end:
        raise ValueError(
            f"`stages` has {_description(stages[last])} from {by} {last} on, and the run ends before, after "
            f"{end} {by}s counted from 0: train for longer, or unfreeze earlier."
        )


def _variables(step: TrainStep, what: StageFilters, plan: Plan | None) -> list[keras.Variable]:
    """The variables of a stage; the name of a group stands for its variables, all else is a filter."""
    groups = {} if plan is None else plan.members
    named = [spec for spec in _filters(what) if isinstance(spec, str) and spec in groups]
    filters = [spec for spec in _filters(what) if not (isinstance(spec, str) and spec in groups)]
    variables = [variable for group in named for variable in groups[group].values()]
    if filters:
        members = {id(variable) for variable in variables}
        of_groups: list[FilterLike] = [lambda info: id(info.variable) in members] if members else []
        variables += [v for v in select(step.model, *filters, *of_groups) if id(v) not in members]
    return variables


def check_base(step: TrainStep, names: Sequence[str], stage_at_0: bool) -> None:
    """Raises ValueError if the names in `UnfreezeState.base` do not fit the stages or the model."""
    if not names and not stage_at_0:
        raise ValueError(
            "`Unfreeze` was given a state that begins with a stage at time 0, and `stages` has none: pass "
            "what `state()` returned for one with the same arguments."
        )
    unknown = set(names) - set(names_of(step, step.model.trainable_variables))
    if unknown:
        raise ValueError(
            f"`Unfreeze` began with {first_few(sorted(unknown))}, which the model cannot train: the state is "
            "that of another model, or layers of this one have `trainable=False` since."
        )


def top_down(step: TrainStep, every: int, number: int | None) -> dict[int, list[FilterLike]]:
    """Stages from the top of the model down, one each `every`, at most `number` of them."""
    plan = plan_of(step)
    parts: list[FilterLike]
    if plan is not None and len(plan.groups) > 1:
        order = {name: index for index, name in enumerate(plan.order)}
        names = [name for name, group in plan.groups.items() if not group.frozen]
        parts = [*sorted(names, key=lambda name: max(order[member] for member in plan.members[name]))]
    else:
        parts = list(depths(step.model))
    if len(parts) < 2:
        raise ValueError(
            "`Unfreeze` has nothing to unfreeze: apart from what the optimizer's plan freezes, the model is "
            "one group or layer. Name what is to train as well, such as `Unfreeze({0: 'head', 2: all})`."
        )
    number = min(len(parts), number or len(parts))
    if number == 1:
        return {0: parts}
    # The top is new, so it begins alone. Of the stages below it, the largest are at the bottom.
    below = np.array_split(np.arange(len(parts) - 1), number - 1)
    stages = [[parts[index] for index in indices] for indices in below] + [parts[-1:]]
    return {index * every: stage for index, stage in enumerate(reversed(stages))}


def is_unfreeze_state(state: Any, top_down_by_step: bool, by_plateau: bool) -> bool:
    """Whether `state` is an `UnfreezeState` of an `Unfreeze` with these properties."""
    if not isinstance(state, Mapping) or set(state) != UnfreezeState.__required_keys__:
        return False
    base, span = state["base"], state["span"]
    if base is not None and not (isinstance(base, list) and all(isinstance(name, str) for name in base)):
        return False
    if span is not None and not (top_down_by_step and isinstance(span, (list, tuple)) and len(span) == 2):
        return False
    for number, least in zip(span or (), (0, 1)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            return False
    return (state["plateau"] is not None) == by_plateau


def unfreeze_groups(step: TrainStep, chosen: set[int]) -> None:
    """Unfreezes the groups of the optimizer's plan that hold variables whose `id` is in `chosen`."""
    plan = plan_of(step)
    if plan is None:
        return
    frozen = [name for name, group in plan.groups.items() if group.frozen]
    groups = [name for name in frozen if any(id(v) in chosen for v in plan.members[name].values())]
    if groups:
        step.inner_optimizer.unfreeze(*groups)
