"""A stock Keras optimizer, as it is, with its updates done by fused kernels."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ..gradients.replicas import add_one
from ..gradients.sparse import Gradient
from ..private.keras_private import uses_weight_decay
from .base import GroupedVariable, UpdateContext
from .fused_updater import FusedUpdater
from .tensorflow_ops import update_op_for
from .update_op import UpdateOp

# What `optimizer.apply` does besides: where one is set, Keras does it all.
_MORE = (
    *("clipnorm", "clipvalue", "global_clipnorm", "use_ema", "loss_scale_factor"),
    "gradient_accumulation_steps",
)


class PlainOptimizerUpdate:
    """Does what `optimizer.apply` does, on the same state, by one kernel a variable. `find` makes it."""

    def __init__(self, optimizer: keras.optimizers.Optimizer, part: FusedUpdater) -> None:
        self._optimizer = optimizer
        self._part = part

    @classmethod
    def find(
        cls, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
    ) -> PlainOptimizerUpdate | None:
        """The update of `variables`; None where Keras' own is the one to use.

        That is so for an optimizer without a kernel, for settings that do more than update, for variables of
        other types than float32 and float64, and for state that cannot be told apart.

        Args:
            optimizer: a built optimizer.
            variables: some of those it was built over.
        """
        dtypes = {variable.dtype for variable in variables}
        if len(dtypes) != 1 or any(getattr(optimizer, setting, None) for setting in _MORE):
            return None
        if any(variable.overwrite_with_gradient for variable in variables):
            return None
        kernel = update_op_for(optimizer, dtypes.pop())
        # Keras' own state starts as Keras has it; a kernel that wants another start has other state.
        if kernel is None or kernel.initial:
            return None
        slots = _slots(optimizer, kernel, variables)
        if slots is None:
            return None
        value = optimizer.weight_decay or 0.0
        members = []
        for index, variable in enumerate(variables):
            decay = value if uses_weight_decay(optimizer, variable) else 0.0
            members.append(GroupedVariable(variable.path, variable, index, 0, decay))
        return cls(optimizer, FusedUpdater(kernel, members, slots=slots))

    def __call__(self, gradients: Sequence[Gradient]) -> None:
        """Updates the variables by their gradients, one each."""
        iterations = self._optimizer.iterations
        rate = tf.convert_to_tensor(self._optimizer.learning_rate)
        count = tf.convert_to_tensor(iterations) + 1 if self._part.counts else None
        work = list(zip(self._part.members, gradients))
        self._part.apply(work, UpdateContext([rate], None, count, iterations))
        add_one(iterations)


def _slots(
    optimizer: keras.optimizers.Optimizer, kernel: UpdateOp, variables: Sequence[keras.Variable]
) -> dict[str, list[keras.Variable]] | None:
    """The optimizer's state by the paths of variables; None if names do not tell.

    Keras calls the state of `dense/kernel` `dense_kernel_momentum`; two models may share such names.
    """
    by_name: dict[str, list[keras.Variable]] = {}
    for state in optimizer.variables:
        by_name.setdefault(state.name, []).append(state)
    found = {}
    for variable in variables:
        names = [f"{variable.path.replace('/', '_')}_{slot}" for slot in kernel.slots]
        if any(len(by_name.get(name, ())) != 1 for name in names):
            return None
        found[variable.path] = [by_name[name][0] for name in names]
        if any(tuple(slot.shape) != tuple(variable.shape) for slot in found[variable.path]):
            return None
    return found if len(found) == len(variables) else None
