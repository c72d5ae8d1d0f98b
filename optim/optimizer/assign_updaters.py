"""Which updater updates which of a plan's variables."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from ..groups.group import Group, KernelDecay
from ..groups.plan import Plan
from ..private.keras_private import uses_weight_decay
from ..updates.base import Averaging, GroupedVariable, Updater
from ..updates.fused_updater import FusedUpdater
from ..updates.keras_updater import KerasUpdater
from ..updates.tensorflow_ops import UpdateOp, update_op_for


def grouped_variables(
    plan: Plan, optimizer: keras.optimizers.Optimizer, outer: keras.optimizers.Optimizer | None = None
) -> dict[str, GroupedVariable]:
    """The plan's variables by stable name, each with its group and its weight decay.

    `outer` is the optimizer around `optimizer`, whose decay holds now, and whose exclusions hold for all
    groups; None for `optimizer` itself.
    """
    group_index = {name: index for index, name in enumerate(plan.groups)}
    group_of = plan.group_of
    members = {}
    for index, (name, variable) in enumerate(plan.variables.items()):
        group = plan.groups[group_of[name]]
        template = group.optimizer or optimizer
        decay = group.weight_decay
        if outer is not None and not uses_weight_decay(outer, variable, template):
            own = 0.0
        elif decay is None:
            value = (outer or optimizer if group.optimizer is None else template).weight_decay or 0.0
            own = value if uses_weight_decay(template, variable) else 0.0
        else:
            own = decay.of(variable, name) if isinstance(decay, KernelDecay) else decay
        members[name] = GroupedVariable(name, variable, index, group_index[group_of[name]], own)
    return members


def assign_updaters(
    plan: Plan, optimizer: keras.optimizers.Optimizer, members: Sequence[GroupedVariable]
) -> list[Updater]:
    """One updater for each optimizer and dtype with a fused operation; for others, one for each group.

    A Keras optimizer may hold state that every call moves on, and decays all weights by its own rate, so a
    group needs one of its own.
    """
    groups = list(plan.groups.values())
    fused: dict[tuple[int, str], tuple[UpdateOp, list[GroupedVariable]]] = {}
    others: dict[int, list[GroupedVariable]] = {}
    for member in members:
        template = groups[member.group].optimizer or optimizer
        key = (id(template), member.variable.dtype)
        op = fused[key][0] if key in fused else update_op_for(template, member.variable.dtype)
        if op is None:
            others.setdefault(member.group, []).append(member)
        else:
            fused.setdefault(key, (op, []))[1].append(member)
    averaging = averaging_of(optimizer)
    updaters: list[Updater] = [FusedUpdater(op, mine, averaging) for op, mine in fused.values()]
    for index, mine in others.items():
        template = groups[index].optimizer or optimizer
        updaters.append(KerasUpdater(template, mine, *decay_of(groups[index], template, mine), averaging))
    return updaters


def averaging_of(optimizer: keras.optimizers.Optimizer) -> Averaging | None:
    return Averaging(optimizer.ema_momentum, optimizer.ema_overwrite_frequency) if optimizer.use_ema else None


def decay_of(
    group: Group,
    template: keras.optimizers.Optimizer,
    members: Sequence[GroupedVariable],
    outer: keras.optimizers.Optimizer | None = None,
) -> tuple[float | None, list[keras.Variable]]:
    """A group's own weight decay, and the variables that do not decay."""
    decay, variables = group.weight_decay, [member.variable for member in members]
    if decay is not None:
        value = decay.value if isinstance(decay, KernelDecay) else decay
        return value, [member.variable for member in members if not member.decay]
    # Muon has two decays: what a variable has is its own affair.
    asked = [template, *([] if outer is None else [outer])]
    return None, [v for v in variables if not all(uses_weight_decay(one, v, template) for one in asked)]
