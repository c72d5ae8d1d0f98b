"""The stages of gradual unfreezing: what trains from which time on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...optim import Plan, depths, select
from ...optim.common.messages import first_few, short_repr
from ...optim.filters.base import as_filter
from ..step.train_step import TrainStep
from ..step.trainable import inner_optimizer, names_of, plan_of
from ..support.keras_private import knows_variable

_EVERYTHING = "*"


class Stage(NamedTuple):
    """What trains as well from a time on.

    Attributes:
        when: the time.
        text: its name, for people.
        variables: its variables.
    """

    when: int
    text: str
    variables: list[Any]


def checked_stages(stages: Any) -> dict[int, Any]:
    """Stages whose times and filters can be such; else an error that says which is none."""
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


def _filters(what: Any) -> tuple[Any, ...]:
    several = what if isinstance(what, (list, tuple)) else (what,)
    return tuple(_EVERYTHING if spec is all else spec for spec in several)


def shown(what: Any) -> str:
    """What a stage unfreezes, for people."""
    texts = [spec if isinstance(spec, str) else repr(spec) for spec in _filters(what)]
    return first_few(["everything" if text == _EVERYTHING else text for text in texts])


def resolved(step: TrainStep, stages: Mapping[int, Any]) -> list[Stage]:
    """The stages of a step's model, in the order of time.

    Raises:
        SelectionError: one that matches nothing, or that `trainable=False` freezes.
        ValueError: the optimizer was built without what one of them trains.
    """
    plan = plan_of(step)
    found = [
        Stage(when, shown(stages[when]), _variables(step, stages[when], plan)) for when in sorted(stages)
    ]
    optimizer = inner_optimizer(step)
    if optimizer.built:  # else the step builds it, over all that the model can train
        for when, text, variables in found:
            strange = [variable for variable in variables if not knows_variable(optimizer, variable)]
            if strange:
                raise ValueError(
                    f"`stages` has {text} from time {when} on, and the optimizer was built without "
                    f"{first_few(names_of(step, strange))}, so it has no state for them. Build it over all "
                    "variables, `optimizer.build(model.trainable_variables)`, or leave that to `TrainStep`; "
                    "an `optim.GroupedOptimizer` knows all variables of its plan."
                )
    return found


def check_end(stages: Mapping[int, Any], by: str, end: int) -> None:
    """Raises ValueError if the last stage begins when the run has ended."""
    last = max(stages)
    if last >= end:
        raise ValueError(
            f"`stages` has {shown(stages[last])} from {by} {last} on, and the run ends before, after {end} "
            f"{by}s counted from 0: train for longer, or unfreeze earlier."
        )


def _variables(step: TrainStep, what: Any, plan: Plan | None) -> list[Any]:
    """The variables of a stage. A group's name means the group; all else is a filter."""
    variables: list[Any] = []
    for spec in _filters(what):
        if plan is not None and isinstance(spec, str) and spec in plan.groups:
            variables += plan.members[spec].values()
        else:
            variables += select(step.model, spec)
    return variables


def check_base(step: TrainStep, names: Sequence[str], stage_at_0: bool) -> None:
    """Raises ValueError if training cannot have begun with variables of these names."""
    if not names and not stage_at_0:
        raise ValueError(
            "`Unfreeze` was given a state that begins with a stage at time 0, and `stages` has none: pass "
            "what `state()` gave of one with the same arguments."
        )
    strange = set(names) - set(names_of(step, step.model.trainable_variables))
    if strange:
        raise ValueError(
            f"`Unfreeze` began with {first_few(sorted(strange))}, which the model cannot train: the state is "
            "that of another model, or layers of this one have `trainable=False` since."
        )


def top_down(step: TrainStep, every: int, number: int | None) -> dict[int, Any]:
    """Stages from the top of the model down, at most `number` of them."""
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
    number = min(len(runs), number or len(runs))
    if number == 1:
        return {0: runs}
    # The top is new, so it begins alone. Of the stages below it, longer ones are those at the bottom.
    below = np.array_split(np.arange(len(runs) - 1), number - 1)
    parts = [[runs[index] for index in part] for part in below] + [runs[-1:]]
    return {place * every: part for place, part in enumerate(reversed(parts))}


def is_state(state: Any, counts: bool, plateau: bool) -> bool:
    """Whether a state can be that of an `Unfreeze`.

    Args:
        state: anything.
        counts: whether it goes from the top down by steps.
        plateau: whether it waits for plateaus.
    """
    if not isinstance(state, Mapping) or set(state) != {"base", "span", "plateau"}:
        return False
    base, span = state["base"], state["span"]
    if base is not None and not (isinstance(base, list) and all(isinstance(name, str) for name in base)):
        return False
    if span is not None and not (counts and isinstance(span, (list, tuple)) and len(span) == 2):
        return False
    for number, least in zip(span or (), (0, 1)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            return False
    return (state["plateau"] is not None) == plateau


def unfreeze_groups(step: TrainStep, chosen: set[int]) -> None:
    """Unfreezes the groups of the optimizer's plan that hold variables whose `id` is in `chosen`."""
    plan = plan_of(step)
    if plan is None:
        return
    groups = [
        name
        for name, group in plan.groups.items()
        if group.frozen and any(id(variable) in chosen for variable in plan.members[name].values())
    ]
    if groups:
        inner_optimizer(step).unfreeze(*groups)


def count_of(step: TrainStep) -> int:
    """The batches in all of the step's training, as `train` counts them when it begins."""
    updated = int(step.optimizer.iterations.numpy()) * step.accumulate
    return max(updated, int(step.batches_done.numpy()))
