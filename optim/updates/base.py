"""What every updater has in common: the variables, their state, and what an update is made with."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import keras
import tensorflow as tf

from ..common.types import Gradient, Scalar
from ..gradients.replicas import when


@dataclass(frozen=True, eq=False)
class GroupedVariable:
    """A variable and where it stands in the plan."""

    name: str  # stable
    variable: keras.Variable
    index: int  # among all variables of the plan
    group: int  # index of its group
    decay: float  # its decoupled weight decay


# Variables and their gradients: sums over replicas, sparse ones with each row once.
Pairs: TypeAlias = Sequence[tuple[GroupedVariable, Gradient]]


@dataclass(frozen=True, eq=False)
class UpdateContext:
    """What an update is made with."""

    rates: Sequence[Scalar]  # learning rate of each group, float32
    active: Sequence[Scalar] | None  # for each group, whether it trains; None if all that is passed does
    # (variables of the plan,) int64, which update this is for each, from 1; a scalar if it is the same one
    # for all; None if no updater needs to know.
    update_counts: tf.Tensor | None
    iterations: Scalar | keras.Variable  # updates made before this one

    def if_trains(self, group: int, action: Callable[[], object]) -> None:
        """Runs an action of a group if that trains."""
        if self.active is None:
            action()
        else:
            when(self.active[group], action)


@dataclass(frozen=True)
class Averaging:
    """Exponential moving averages of the variables, as Keras' optimizers keep them with `use_ema`."""

    momentum: float
    overwrite_every: int | None


class Updater(abc.ABC):
    """Variables that are updated in one way, and their state."""

    fused: bool  # whether each is updated by one TensorFlow operation
    members: Sequence[GroupedVariable]
    needs_update_counts: bool  # whether `apply` uses `UpdateContext.update_counts`
    own_count: keras.Variable | None  # of the updates of all members together, where the updater counts them

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
