"""How a plan's variables fall into parts that are updated in one way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ..groups.group import KernelDecay
from ..groups.plan import Plan
from ..private.keras_private import uses_weight_decay
from ..updates.base import Averaging, GroupedVariable, Updater
from ..updates.fused_updater import FusedUpdater
from ..updates.keras_updater import KerasUpdater
from ..updates.tensorflow_ops import update_op_for
from ..updates.update_op import UpdateOp


def grouped_variables(plan: Plan, optimizer: keras.optimizers.Optimizer) -> dict[str, GroupedVariable]:
    """The plan's variables by stable name, each with its group and its weight decay."""
    places = {name: index for index, name in enumerate(plan.groups)}
    group_of = plan.group_of
    members = {}
    for position, (name, variable) in enumerate(plan.variables.items()):
        group = plan.groups[group_of[name]]
        template = group.optimizer or optimizer
        decay = group.weight_decay
        if decay is None:
            value = template.weight_decay or 0.0
            own = value if uses_weight_decay(template, variable) else 0.0
        else:
            own = decay.of(variable) if isinstance(decay, KernelDecay) else decay
        members[name] = GroupedVariable(name, variable, position, places[group_of[name]], own)
    return members


def assign_updaters(
    plan: Plan,
    optimizer: keras.optimizers.Optimizer,
    members: Sequence[GroupedVariable],
    averaging: Averaging | None,
) -> list[Updater]:
    """Variables of one optimizer and dtype are one part, if there is a kernel; else those of one group."""
    groups = list(plan.groups.values())
    kernels: dict[Any, tuple[UpdateOp, list[GroupedVariable]]] = {}
    others: dict[int, list[GroupedVariable]] = {}
    for member in members:
        template = groups[member.group].optimizer or optimizer
        key = (id(template), member.variable.dtype)
        kernel = kernels[key][0] if key in kernels else update_op_for(template, member.variable.dtype)
        if kernel is None:
            others.setdefault(member.group, []).append(member)
        else:
            kernels.setdefault(key, (kernel, []))[1].append(member)
    parts: list[Updater] = [FusedUpdater(kernel, mine, averaging) for kernel, mine in kernels.values()]
    for index, mine in others.items():
        template, decay = groups[index].optimizer or optimizer, groups[index].weight_decay
        value = decay.value if isinstance(decay, KernelDecay) else decay
        if decay is None:  # Muon has two decays: what a variable has is its own affair
            exempt = [m.variable for m in mine if not uses_weight_decay(template, m.variable)]
        else:
            exempt = [m.variable for m in mine if not m.decay]
        parts.append(KerasUpdater(template, mine, value, exempt, averaging))
    return parts
