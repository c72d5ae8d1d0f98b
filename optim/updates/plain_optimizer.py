"""A stock Keras optimizer, as it is, with its updates done by fused kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import keras
import tensorflow as tf

from ..common.optimizers import SHARED_SETTINGS
from ..common.types import Gradient
from ..gradients.given import is_new_value
from ..gradients.replicas import add_one
from ..private.keras_private import RateOf, uses_weight_decay
from .base import GroupedVariable, UpdateContext
from .fused_updater import FusedUpdater
from .slots import Slot, slots_of
from .tensorflow_ops import UpdateOp, update_op_for

# Updates variables by their gradients, one each.
PlainUpdate: TypeAlias = Callable[[Sequence[Gradient]], None]


def fused_update(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    rate_of: RateOf | None = None,
) -> PlainUpdate | None:
    """What does for some variables of a built optimizer what its `apply` does, on the same state.

    None where Keras' own is the one to use: for an optimizer without a fused operation, for settings that do
    more than update, for variables of other types than float32 and float64, and for state that cannot be told
    apart. `rate_of` gives the rate of an update, of the one that is set; None for that one.
    """
    dtypes = {variable.dtype for variable in variables}
    if len(dtypes) != 1 or any(getattr(optimizer, setting, None) for setting in SHARED_SETTINGS):
        return None
    op = None if any(map(is_new_value, variables)) else update_op_for(optimizer, dtypes.pop())
    # Keras' own state starts as Keras has it; an operation that wants another start has other state.
    slots = None if op is None or op.initial else _slots(optimizer, op, variables)
    if op is None or slots is None:
        return None
    value = optimizer.weight_decay or 0.0
    decays = [value if uses_weight_decay(optimizer, variable) else 0.0 for variable in variables]
    pairs = enumerate(zip(variables, decays))
    members = [GroupedVariable(v.path, v, index, 0, decay) for index, (v, decay) in pairs]
    updater = FusedUpdater(op, members, slots=slots)

    def update(gradients: Sequence[Gradient]) -> None:
        iterations, rate = optimizer.iterations, tf.convert_to_tensor(optimizer.learning_rate)
        rate = rate if rate_of is None else rate_of(rate)
        count = tf.convert_to_tensor(iterations) + 1 if updater.needs_update_counts else None
        context = UpdateContext([rate], None, count, iterations)
        updater.apply(list(zip(members, gradients)), context)
        add_one(iterations)

    return update


def _slots(
    optimizer: keras.optimizers.Optimizer, op: UpdateOp, variables: Sequence[keras.Variable]
) -> dict[str, list[keras.Variable]] | None:
    """The optimizer's state by the paths of variables; None if names do not tell it apart."""
    slots = slots_of(optimizer.variables, variables)
    states = {slots[id(state)]: state for state in optimizer.variables if id(state) in slots}
    if len({variable.path for variable in variables}) < len(variables) or len(states) < len(slots):
        return None
    found = {}
    for index, variable in enumerate(variables):
        own = [states[key] for name in op.slots if (key := Slot(index, name)) in states]
        if len(own) < len(op.slots) or any(state.shape != variable.shape for state in own):
            return None
        found[variable.path] = own
    return found
