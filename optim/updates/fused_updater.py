"""A part of the plan that one fused kernel updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import keras
import tensorflow as tf

from ..gradients.replicas import on_each_device, when
from ..gradients.sparse import Gradient
from .base import Averaging, GroupedVariable, UpdateContext, Updater, Work, constrain, new_slot
from .update_op import UpdateOp


class FusedUpdater(Updater):
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
        kernel: UpdateOp,
        members: Sequence[GroupedVariable],
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
        """Whether `UpdateContext.updates` is needed."""
        return self._kernel.counts or self._averaging is not None

    def state(self) -> dict[str, keras.Variable]:
        state = {}
        for name, slots in self._slots.items():
            state.update({f"{name}/{slot}": v for slot, v in zip(self._kernel.slots, slots)})
        return state | {f"{name}/average": average for name, average in self._averages.items()}

    def apply(self, work: Work, moment: UpdateContext) -> None:
        by_group: dict[int, list[tuple[GroupedVariable, Gradient, tf.Tensor]]] = {}
        for (member, gradient), rate in zip(work, self._corrected(work, moment)):
            by_group.setdefault(member.group, []).append((member, gradient, rate))
        for group, share in by_group.items():
            update = partial(self._update, share, moment.rates[group], moment)
            if moment.active is None:
                update()
            else:
                when(moment.active[group], update)

    def _corrected(self, work: Work, moment: UpdateContext) -> Sequence[tf.Tensor]:
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

    def _updates(self, work: Work, moment: UpdateContext) -> tf.Tensor:
        assert moment.updates is not None
        positions = [member.position for member, _ in work]
        if positions == list(range(moment.updates.shape[0])):
            return moment.updates
        return tf.gather(moment.updates, positions)

    def _update(
        self,
        share: Sequence[tuple[GroupedVariable, Gradient, tf.Tensor]],
        group_rate: tf.Tensor,
        moment: UpdateContext,
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

    def _average(
        self, averaging: Averaging, members: Sequence[GroupedVariable], moment: UpdateContext
    ) -> None:
        assert moment.updates is not None
        started = tf.cast(moment.updates > 1, self._dtype) * averaging.momentum
        for member in members:
            inputs = (self._averages[member.name].value, started[member.position])
            on_each_device(member.variable, _move_average, inputs)
        if averaging.overwrite_every:
            due = tf.equal((tf.convert_to_tensor(moment.iterations) + 1) % averaging.overwrite_every, 0)
            when(due, lambda: self._overwrite(members))

    def _overwrite(self, members: Sequence[GroupedVariable]) -> None:
        for member in members:
            on_each_device(member.variable, _assign, (self._averages[member.name].value,))


def _assign(variable: tf.Variable, value: tf.Variable) -> None:
    variable.assign(value)


def _move_average(variable: tf.Variable, average: tf.Variable, momentum: tf.Tensor) -> None:
    # As Keras writes it, to the last bit.
    average.assign(momentum * average + (1 - momentum) * variable)


def _cast(gradient: Gradient, dtype: str) -> Gradient:
    return gradient if gradient.dtype == dtype else tf.cast(gradient, dtype)
