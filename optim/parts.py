"""A part of the plan that one fused kernel updates."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from .kernel import Kernel
from .replicas import on_each_device, when
from .sparse import Gradient

Work = Sequence[tuple["Member", Gradient]]


@dataclass(frozen=True, eq=False)
class Member:
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
class Moment:
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


class Part(abc.ABC):
    """Variables that are updated in one way, and their state."""

    fused: bool
    members: Sequence[Member]

    @abc.abstractmethod
    def state(self) -> dict[str, keras.Variable]:
        """The state variables, `"<stable name>/<slot>"` each."""

    @abc.abstractmethod
    def apply(self, work: Work, moment: Moment) -> None:
        """Updates the variables of `work`, all of them members."""


class FusedPart(Part):
    """Variables of one dtype that one kernel updates, whatever their groups.

    Args:
        kernel: the kernel.
        members: the variables.
        averaging: averages to keep; None for none.
        slots: state variables that exist already, stable name -> one for each of `kernel.slots`; None to
            make them.
    """

    fused = True

    def __init__(
        self,
        kernel: Kernel,
        members: Sequence[Member],
        averaging: Averaging | None = None,
        slots: Mapping[str, Sequence[keras.Variable]] | None = None,
    ) -> None:
        self.members = members
        self._kernel = kernel
        self._dtype = members[0].variable.dtype
        self._averaging = averaging
        self._slots = slots or {
            member.name: [new_slot(member, slot, kernel.initial) for slot in kernel.slots]
            for member in members
        }
        self._averages = {m.name: new_slot(m, "average") for m in members} if averaging else {}

    @property
    def counts(self) -> bool:
        """Whether `Moment.updates` is needed."""
        return self._kernel.counts or self._averaging is not None

    def state(self) -> dict[str, keras.Variable]:
        state = {}
        for name, slots in self._slots.items():
            state.update({f"{name}/{slot}": v for slot, v in zip(self._kernel.slots, slots)})
        return state | {f"{name}/average": average for name, average in self._averages.items()}

    def apply(self, work: Work, moment: Moment) -> None:
        by_group: dict[int, list[tuple[Member, Gradient, tf.Tensor]]] = {}
        for (member, gradient), rate in zip(work, self._corrected(work, moment)):
            by_group.setdefault(member.group, []).append((member, gradient, rate))
        for group, share in by_group.items():
            update = partial(self._update, share, moment.rates[group], moment)
            if moment.active is None:
                update()
            else:
                when(moment.active[group], update)

    def _corrected(self, work: Work, moment: Moment) -> Sequence[tf.Tensor]:
        """The rate of each variable of `work`, in its dtype."""
        rates = [self._kernel.scaled(tf.cast(rate, self._dtype)) for rate in moment.rates]
        if not self._kernel.counts:
            return [rates[member.group] for member, _ in work]
        assert moment.updates is not None
        groups = [member.group for member, _ in work]
        if moment.updates.shape.rank == 0:
            by_group = {group: self._kernel.corrected(rates[group], moment.updates) for group in set(groups)}
            return [by_group[group] for group in groups]
        # One small vector for all variables costs less than a few scalars for each.
        together = tf.gather(tf.stack(rates), groups)
        return tf.unstack(self._kernel.corrected(together, self._updates(work, moment)), len(groups))

    def _updates(self, work: Work, moment: Moment) -> tf.Tensor:
        assert moment.updates is not None
        positions = [member.position for member, _ in work]
        if positions == list(range(moment.updates.shape[0])):
            return moment.updates
        return tf.gather(moment.updates, positions)

    def _update(
        self,
        share: Sequence[tuple[Member, Gradient, tf.Tensor]],
        group_rate: tf.Tensor,
        moment: Moment,
    ) -> None:
        scalars = self._kernel.scalars(self._dtype)
        group_rate = tf.cast(group_rate, self._dtype)
        losses: dict[float, tf.Tensor] = {}
        for member, gradient, rate in share:
            if member.decay and member.decay not in losses:
                losses[member.decay] = group_rate * tf.constant(member.decay, self._dtype)
            slots = tuple(slot.value for slot in self._slots[member.name])
            inputs = (gradient, rate, losses.get(member.decay), slots, scalars)
            on_each_device(member.variable, self._update_one, inputs)
        if self._averaging is not None:
            self._average(self._averaging, [member for member, _, _ in share], moment)
        for member, _, _ in share:
            if member.variable.constraint is not None:
                constrain(member.variable)

    def _update_one(
        self,
        variable: tf.Variable,
        gradient: Gradient,
        rate: tf.Tensor,
        loss: tf.Tensor | None,
        slots: Sequence[tf.Variable],
        scalars: Sequence[tf.Tensor],
    ) -> None:
        gradient = _cast(gradient, self._dtype)
        if loss is not None:
            variable.assign_sub(variable * loss)
        update = self._kernel.update_rows if isinstance(gradient, tf.IndexedSlices) else self._kernel.update
        update(variable, gradient, rate, slots, list(scalars))

    def _average(self, averaging: Averaging, members: Sequence[Member], moment: Moment) -> None:
        assert moment.updates is not None
        started = tf.cast(moment.updates > 1, self._dtype) * averaging.momentum
        for member in members:
            inputs = (self._averages[member.name].value, started[member.position])
            on_each_device(member.variable, _move_average, inputs)
        if averaging.overwrite_every:
            due = tf.equal((tf.convert_to_tensor(moment.iterations) + 1) % averaging.overwrite_every, 0)
            when(due, lambda: self._overwrite(members))

    def _overwrite(self, members: Sequence[Member]) -> None:
        for member in members:
            on_each_device(member.variable, _assign, (self._averages[member.name].value,))


def _assign(variable: tf.Variable, value: tf.Variable) -> None:
    variable.assign(value)


def _move_average(variable: tf.Variable, average: tf.Variable, momentum: tf.Tensor) -> None:
    # As Keras writes it, to the last bit.
    average.assign(momentum * average + (1 - momentum) * variable)


def new_slot(member: Member, slot: str, initial: float = 0.0) -> keras.Variable:
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


def merged_state(parts: Sequence[Part]) -> Mapping[str, keras.Variable]:
    """The state of all parts under one roof."""
    return {name: variable for part in parts for name, variable in part.state().items()}


def _cast(gradient: Gradient, dtype: str) -> Gradient:
    return gradient if gradient.dtype == dtype else tf.cast(gradient, dtype)
