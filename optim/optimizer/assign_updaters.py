"""Which updater updates which of a plan's variables."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from ..groups.group import KernelDecay
from ..groups.plan import Plan
from ..private.keras_private import uses_weight_decay
from ..updates.base import Averaging, GroupedVariable, Updater
from ..updates.fused_updater import FusedUpdater
from ..updates.keras_updater import KerasUpdater
from ..updates.tensorflow_ops import UpdateOp, update_op_for


def grouped_variables(plan: Plan, optimizer: keras.optimizers.Optimizer) -> dict[str, GroupedVariable]:
    """The plan's variables by stable name, each with its group and its weight decay."""
    group_index = {name: index for index, name in enumerate(plan.groups)}
    group_of = plan.group_of
    members = {}
    for index, (name, variable) in enumerate(plan.variables.items()):
        group = plan.groups[group_of[name]]
        template = group.optimizer or optimizer
        decay = group.weight_decay
        if decay is None:
            value = template.weight_decay or 0.0
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
    averaging = None
    if optimizer.use_ema:
        averaging = Averaging(optimizer.ema_momentum, optimizer.ema_overwrite_frequency)
    updaters: list[Updater] = [FusedUpdater(op, mine, averaging) for op, mine in fused.values()]
    for index, mine in others.items():
        template, decay = groups[index].optimizer or optimizer, groups[index].weight_decay
        value = decay.value if isinstance(decay, KernelDecay) else decay
        if decay is None:  # Muon has two decays: what a variable has is its own affair
            exempt = [m.variable for m in mine if not uses_weight_decay(template, m.variable)]
        else:
            exempt = [m.variable for m in mine if not m.decay]
        updaters.append(KerasUpdater(template, mine, value, exempt, averaging))
    return updaters
