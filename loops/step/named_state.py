"""The variables of a step under names that are the same in every process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import keras
import tensorflow as tf

from ...optim.common.optimizers import inner_optimizer
from ...optim.naming.stable_names import tree_of
from ...optim.private.keras_private import has_automatic_variable_name
from ...optim.updates.slots import slots_of
from ..support.keras_private import built_variables, held_metrics
from .untracked import untracked_variables

Variable: TypeAlias = keras.Variable | tf.Variable
Pairs: TypeAlias = list[tuple[str, Variable]]


def unique(pairs: Iterable[tuple[str, Variable]]) -> dict[str, Variable]:
    """Returns name -> variable: each variable once, a name that was taken with `_1`, `_2`, ... after it."""
    state: dict[str, Variable] = {}
    seen: set[int] = set()
    for name, variable in pairs:
        if id(variable) not in seen:
            seen.add(id(variable))
            number, free = 0, name
            while free in state:
                number += 1
                free = f"{name}_{number}"
            state[free] = variable
    return state


def model_state(model: keras.Model, metrics: Iterable[keras.metrics.Metric] = ()) -> Pairs:
    """Returns the weights of a built model, the states of its seed generators, and what Keras does not track.

    Then follow the variables of metrics with a state: those given, and those that the model's layers hold.

    Weights have the names of `optim.named_variables`. Keras counts seed generators through the whole process;
    here they have the name of the innermost layer that holds them. The rest have those of attributes.
    """
    tree = tree_of(model)  # once: it takes a walk through all layers
    named = [(info.name, info.variable) for info in tree.infos]
    weights = {id(variable) for _, variable in named}
    others = [variable for variable in model.variables if id(variable) not in weights]
    homes: dict[int, tuple[tuple[int, int], str]] = {}
    for node in tree.nodes if others else ():
        variables = node.layer.variables
        narrow = (len(variables), -len(node.ancestors))
        for variable in variables:
            if id(variable) not in homes or narrow < homes[id(variable)][0]:
                homes[id(variable)] = narrow, f"{node.path}/"
    tracked = named + [(homes[id(v)][1] + v.name if id(v) in homes else v.name, v) for v in others]
    every = [*metrics, *held_metrics(model, tree)]
    measured = [(f"metrics/{metric.name}/{v.name}", v) for metric in every for v in metric.variables]
    return tracked + untracked_variables(model, tree) + measured


def optimizer_state(optimizer: keras.optimizers.Optimizer, names: Mapping[int, str]) -> Pairs:
    """Returns the variables of a built optimizer, a loss scale's around it included.

    Slots are named after the model's variables, whose `names` are by `id`. An optimizer's own method
    `named_state`, if any, tells names, and variables that Keras has no place for.
    """
    inner = inner_optimizer(optimizer)
    # Keras gives Nadam's `_u_product` no name, and within a loss scale no place in `variables` either.
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
