"""A stock Keras optimizer, as it is, with its updates done by fused kernels."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ..common.optimizers import SHARED_SETTINGS
from ..common.types import Gradient
from ..gradients.given import is_new_value
from ..gradients.replicas import add_one
from ..private.keras_private import uses_weight_decay
from .base import GroupedVariable, UpdateContext
from .fused_updater import FusedUpdater
from .slots import Slot, slots_of
from .tensorflow_ops import UpdateOp, update_op_for


class PlainOptimizerUpdate:
    """Does what `optimizer.apply` does, on the same state, by one operation a variable. `find` makes it."""

    def __init__(self, optimizer: keras.optimizers.Optimizer, updater: FusedUpdater) -> None:
        self._optimizer = optimizer
        self._updater = updater

    @classmethod
    def find(
        cls, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
    ) -> PlainOptimizerUpdate | None:
        """The update of some variables of a built optimizer; None where Keras' own is the one to use.

        That is so for an optimizer without a fused operation, for settings that do more than update, for
        variables of other types than float32 and float64, and for state that cannot be told apart.
        """
        dtypes = {variable.dtype for variable in variables}
        if len(dtypes) != 1 or any(getattr(optimizer, setting, None) for setting in SHARED_SETTINGS):
            return None
        if any(map(is_new_value, variables)):
            return None
        op = update_op_for(optimizer, dtypes.pop())
        # Keras' own state starts as Keras has it; an operation that wants another start has other state.
        if op is None or op.initial:
            return None
        slots = _slots(optimizer, op, variables)
        if slots is None:
            return None
        value = optimizer.weight_decay or 0.0
        members = []
        for index, variable in enumerate(variables):
            decay = value if uses_weight_decay(optimizer, variable) else 0.0
            members.append(GroupedVariable(variable.path, variable, index, 0, decay))
        return cls(optimizer, FusedUpdater(op, members, slots=slots))

    def __call__(self, gradients: Sequence[Gradient]) -> None:
        """Updates the variables by their gradients, one each."""
        iterations = self._optimizer.iterations
        rate = tf.convert_to_tensor(self._optimizer.learning_rate)
        counted = self._updater.needs_update_counts
        count = tf.convert_to_tensor(iterations) + 1 if counted else None
        pairs = list(zip(self._updater.members, gradients))
        self._updater.apply(pairs, UpdateContext([rate], None, count, iterations))
        add_one(iterations)


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
