"""State that an optimizer starts as a copy of the weights, taken when the first update comes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from ..common.types import Scalar
from ..gradients.replicas import on_each_device
from ..private.keras_private import raw_learning_rate, tracked
from ..private.optimizer_copies import fresh_copy
from .tensorflow_ops import update_op_for


class WeightCopies:
    """The state that `build` has made equal to the weights, as that of `ScheduleFreeAdamW` does.

    Weights that are loaded between `build` and the first update would be thrown away by it, as the optimizer
    goes on from its copy. So the copy is made once more, by the first update. The variables are those that
    the optimizer was built over, in order.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
        self._optimizer = optimizer
        state = optimizer.variables
        self._pairs = [(state[place], variables[index]) for place, index in _copies(optimizer, variables)]

    def renew(self) -> None:
        """Copies the weights again if no update was made yet."""
        if not self._pairs:
            return
        first = tf.equal(tf.convert_to_tensor(self._optimizer.iterations), 0)
        for state, variable in self._pairs:
            on_each_device(state, _renew, (variable.value, first))


def _renew(state: tf.Variable, weight: tf.Variable, first: Scalar) -> None:
    value = tf.where(first, tf.cast(tf.convert_to_tensor(weight), state.dtype), tf.convert_to_tensor(state))
    tf.raw_ops.AssignVariableOp(resource=state.handle, value=value)


def _copies(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> list[tuple[int, int]]:
    """Which of the optimizer's variables copies which weight, by their positions.

    Weights may be zero, as much state is, so this looks at another optimizer of the kind, built over small
    variables each of a value of its own.
    """
    if update_op_for(optimizer, "float32") is not None:  # their state starts as a number
        return []
    if type(optimizer).__module__.startswith("keras."):
        # Keras' own treat all variables of a rank alike, so a few tell whether there is anything to look for.
        by_rank = {len(variable.shape): variable for variable in variables}
        if not _probed(optimizer, list(by_rank.values()))[1]:
            return []
    count, found = _probed(optimizer, variables)
    return found if count == len(optimizer.variables) else []


def _probed(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> tuple[int, list[tuple[int, int]]]:
    """How many variables the other optimizer has, and which of them are copies of which weights."""
    stand_ins = [_stand_in(variable, index) for index, variable in enumerate(variables)]
    probe = fresh_copy(optimizer, raw_learning_rate(optimizer))
    try:
        with tracked():
            probe.build(stand_ins)
    except Exception:  # a user's `build` may look at more of its variables than is there
        return 0, []
    values = {_content(stand_in): index for index, stand_in in enumerate(stand_ins)}
    found = [(place, values.get(_content(state))) for place, state in enumerate(probe.variables)]
    return len(found), [(place, index) for place, index in found if index is not None]


def _stand_in(variable: keras.Variable, index: int) -> keras.Variable:
    """A variable of the same path, rank and dtype. In any dtype its value is exact, and that of no other."""
    value = (1 + (index % 127 + 1) / 128) * 2.0 ** (3 + index // 127 % 12)
    *scopes, name = variable.path.split("/")
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        content = np.full([min(size, 2) for size in variable.shape], value)
        made = keras.Variable(content, dtype=variable.dtype, name=name)
    made.overwrite_with_gradient = getattr(variable, "overwrite_with_gradient", False)
    return made


def _content(variable: keras.Variable) -> tuple[tuple[int, ...], bytes]:
    return tuple(variable.shape), np.asarray(variable.numpy(), "float64").tobytes()
