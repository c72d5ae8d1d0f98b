"""How a plan's variables fall into parts that are updated in one way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from .group import KernelDecay
from .keras_part import KerasPart
from .keras_private import uses_weight_decay
from .kernel import Kernel
from .kernels import kernel_for
from .parts import Averaging, FusedPart, Member, Part
from .plan import Plan


def make_members(plan: Plan, optimizer: keras.optimizers.Optimizer) -> dict[str, Member]:
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
        members[name] = Member(name, variable, position, places[group_of[name]], own)
    return members


def make_parts(
    plan: Plan,
    optimizer: keras.optimizers.Optimizer,
    members: Sequence[Member],
    averaging: Averaging | None,
) -> list[Part]:
    """Variables of one optimizer and dtype are one part, if there is a kernel; else those of one group."""
    groups = list(plan.groups.values())
    kernels: dict[Any, tuple[Kernel, list[Member]]] = {}
    others: dict[int, list[Member]] = {}
    for member in members:
        template = groups[member.group].optimizer or optimizer
        key = (id(template), member.variable.dtype)
        kernel = kernels[key][0] if key in kernels else kernel_for(template, member.variable.dtype)
        if kernel is None:
            others.setdefault(member.group, []).append(member)
        else:
            kernels.setdefault(key, (kernel, []))[1].append(member)
    parts: list[Part] = [FusedPart(kernel, mine, averaging) for kernel, mine in kernels.values()]
    for index, mine in others.items():
        template, decay = groups[index].optimizer or optimizer, groups[index].weight_decay
        value = decay.value if isinstance(decay, KernelDecay) else decay
        if decay is None:  # Muon has two decays: what a variable has is its own affair
            exempt = [m.variable for m in mine if not uses_weight_decay(template, m.variable)]
        else:
            exempt = [m.variable for m in mine if not m.decay]
        parts.append(KerasPart(template, mine, value, exempt, averaging))
    return parts
