"""What every updater has in common: the variables, their state, and what an update is made with."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ..gradients.replicas import on_each_device
from ..gradients.sparse import Gradient

Work = Sequence[tuple["GroupedVariable", Gradient]]


@dataclass(frozen=True, eq=False)
class GroupedVariable:
    """A variable and its place in the plan.

    Attributes:
        name: stable name.
        variable: the variable.
        position: its index among all variables of the plan.
        group: the index of its group.
        decay: its decoupled weight decay.
    """

    name: str
    variable: keras.Variable
    position: int
    group: int
    decay: float


@dataclass(frozen=True, eq=False)
class UpdateContext:
    """What an update is made with.

    Attributes:
        rates: learning rate of each group, float32 scalars.
        active: for each group, whether it trains; None if all that is given does.
        updates: (variables of the plan,) int64, which update this is for each, from 1; a scalar if it is
            the same one for all; None if no part needs to know.
        iterations: updates made before this one.
    """

    rates: Sequence[tf.Tensor]
    active: Sequence[tf.Tensor] | None
    updates: tf.Tensor | None
    iterations: Any


@dataclass(frozen=True)
class Averaging:
    """Exponential moving averages of the variables, as Keras' optimizers keep them with `use_ema`."""

    momentum: float
    overwrite_every: int | None

    @classmethod
    def of(cls, optimizer: keras.optimizers.Optimizer) -> Averaging | None:
        """The averages that an optimizer is set to keep; None for none."""
        if not optimizer.use_ema:
            return None
        return cls(optimizer.ema_momentum, optimizer.ema_overwrite_frequency)


class Updater(abc.ABC):
    """Variables that are updated in one way, and their state."""

    fused: bool
    members: Sequence[GroupedVariable]

    @abc.abstractmethod
    def state(self) -> dict[str, keras.Variable]:
        """The state variables, `"<stable name>/<slot>"` each."""

    @abc.abstractmethod
    def apply(self, work: Work, moment: UpdateContext) -> None:
        """Updates the variables of `work`, all of them members."""


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


def constrain(variable: keras.Variable) -> None:
    """Applies a variable's constraint."""
    on_each_device(variable, lambda v: v.assign(variable.constraint(v)), ())


def merged_state(parts: Sequence[Updater]) -> Mapping[str, keras.Variable]:
    """The state of all parts under one roof."""
    return {name: variable for part in parts for name, variable in part.state().items()}
