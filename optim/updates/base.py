"""What every updater has in common: the variables, their state, and what an update is made with."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import keras
import tensorflow as tf

from ..common.types import Gradient, Scalar


@dataclass(frozen=True, eq=False)
class GroupedVariable:
    """A variable and where it stands in the plan.

    Attributes:
        name: stable name.
        index: of the variable among all variables of the plan.
        group: the index of its group.
        decay: its decoupled weight decay.
    """

    name: str
    variable: keras.Variable
    index: int
    group: int
    decay: float


# Variables and their gradients: sums over replicas, sparse ones with each row once.
Pairs: TypeAlias = Sequence[tuple[GroupedVariable, Gradient]]


@dataclass(frozen=True, eq=False)
class UpdateContext:
    """What an update is made with.

    Attributes:
        rates: learning rate of each group, float32 scalars.
        active: for each group, whether it trains; None if all variables that are passed do.
        update_counts: (variables of the plan,) int64, which update this is for each, from 1; a scalar if it
            is the same one for all; None if no updater needs to know.
        iterations: updates made before this one.
    """

    rates: Sequence[Scalar]
    active: Sequence[Scalar] | None
    update_counts: tf.Tensor | None
    iterations: Scalar | keras.Variable


@dataclass(frozen=True)
class Averaging:
    """Exponential moving averages of the variables, as Keras' optimizers keep them with `use_ema`."""

    momentum: float
    overwrite_every: int | None


class Updater(abc.ABC):
    """Variables that are updated in one way, and their state.

    Attributes:
        fused: whether each is updated by one TensorFlow operation.
        members: the variables.
        needs_update_counts: whether `apply` uses `UpdateContext.update_counts`.
        own_count: counts the updates of all members together; None for an updater that does not count.
    """

    fused: bool
    members: Sequence[GroupedVariable]
    needs_update_counts: bool
    own_count: keras.Variable | None

    @abc.abstractmethod
    def state(self) -> dict[str, keras.Variable]:
        """The state variables, `"<stable name>/<slot>"` each."""

    @abc.abstractmethod
    def apply(self, pairs: Pairs, context: UpdateContext) -> None:
        """Updates some of the members by their gradients."""


def new_slot(member: GroupedVariable, slot: str, initial: float = 0.0) -> keras.Variable:
    """A state variable of the shape and dtype of a member's, on its device.

    It is named after the member: in `.h5` files each needs a name of its own.
    """
    variable = member.variable
    with tf.distribute.get_strategy().extended.colocate_vars_with(variable.value):
        return keras.Variable(
            keras.initializers.Constant(initial),
            shape=variable.shape,
            dtype=variable.dtype,
            trainable=False,
            name=f"{member.name}/{slot}".replace("/", "."),
        )
