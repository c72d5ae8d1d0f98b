"""The variables of a step under names that are the same in every process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import keras

from ...optim.common.optimizers import inner_optimizer
from ...optim.private.keras_private import has_automatic_variable_name
from ...optim.updates.slots import slots_of
from ..support.keras_private import built_variables
from .named_model import Pairs, Variable


def unique(pairs: Iterable[tuple[str, Variable]]) -> dict[str, Variable]:
    """Returns name -> variable: each variable once, repeated names with `_1`, `_2`, ... appended."""
    state: dict[str, Variable] = {}
    seen: set[int] = set()
    for name, variable in pairs:
        if id(variable) not in seen:
            seen.add(id(variable))
            number, unused = 0, name
            while unused in state:
                number += 1
                unused = f"{name}_{number}"
            state[unused] = variable
    return state


def optimizer_state(optimizer: keras.optimizers.Optimizer, names: Mapping[int, str]) -> Pairs:
    """Returns the variables of a built optimizer, and those of a loss scale around it.

    Slots are named after the model's variables; `names` maps the `id` of these to their names. An optimizer
    may have a method `named_state`, which gives names, and variables that Keras does not list.
    """
    inner = inner_optimizer(optimizer)
    # Keras gives Nadam's `_u_product` no name, and omits it from `variables` within a loss scale.
    own = {
        attribute.lstrip("_"): value
        for attribute, value in vars(inner).items()
        if isinstance(value, keras.Variable) and has_automatic_variable_name(value)
    }
    if hasattr(inner, "named_state"):
        own |= inner.named_state()
    trained = built_variables(inner)
    owners = [names.get(id(variable)) for variable in trained]
    slots = slots_of(inner.variables, trained).items()
    # `head/kernel/momentum`, where Keras says `sequential_3_head_kernel_momentum`.
    known = {key: f"{owners[slot.owner]}/{slot.name}" for key, slot in slots if owners[slot.owner]}
    known |= {id(variable): name for name, variable in own.items()}
    variables = [*inner.variables, *own.values()]
    if inner is not optimizer:
        variables += [optimizer.step_counter, optimizer.dynamic_scale]
    return [(f"optimizer/{known.get(id(variable), variable.name)}", variable) for variable in variables]
