"""Variables that one TensorFlow operation each updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import keras
import tensorflow as tf

from ..common.messages import first_few
from ..common.types import Gradient, Scalar
from ..gradients.replicas import on_each_device, when
from .base import Averaging, GroupedVariable, Pairs, UpdateContext, Updater, new_slot
from .tensorflow_ops import UpdateOp


class FusedUpdater(Updater):
    """Variables of one dtype that have the same optimizer, whatever their groups.

        for each group that trains:
            for each variable: decay the weight, then the update operation
            for each variable: move its average
            for each variable: apply its constraint

    `slots` is state that exists already, stable name -> one for each of `op.slots`; None to make it.
    """

    fused = True
    own_count = None

    def __init__(
        self,
        op: UpdateOp,
        members: Sequence[GroupedVariable],
        averaging: Averaging | None = None,
        slots: Mapping[str, Sequence[keras.Variable]] | None = None,
    ) -> None:
        self.members = members
        self.needs_update_counts = op.corrects_bias or averaging is not None
        self._op = op
        self._dtype = members[0].variable.dtype
        self._averaging = averaging
        self._slots = slots or {
            member.name: [new_slot(member, slot, op.initial) for slot in op.slots] for member in members
        }
        self._averages = {m.name: new_slot(m, "average") for m in members} if averaging else {}

    def follow(self, op: UpdateOp | None, averaging: Averaging | None) -> None:
        """Takes what follows from changed settings; ValueError if the variables would need other state."""
        if op is None or (op.slots, op.initial) != (self._op.slots, self._op.initial):
            raise ValueError(
                f"`optimizer` was given settings that need other state than it has for "
                f"{first_few([member.name for member in self.members])}: make another optimizer with them"
            )
        self._op, self._averaging = op, averaging

    def state(self) -> dict[str, keras.Variable]:
        state = {}
        for name, slots in self._slots.items():
            state.update({f"{name}/{slot}": v for slot, v in zip(self._op.slots, slots)})
        return state | {f"{name}/average": average for name, average in self._averages.items()}

    def apply(self, pairs: Pairs, context: UpdateContext) -> None:
        by_group: dict[int, list[tuple[GroupedVariable, Gradient, Scalar]]] = {}
        for (member, gradient), rate in zip(pairs, self._corrected_rates(pairs, context)):
            by_group.setdefault(member.group, []).append((member, gradient, rate))
        for group, inputs in by_group.items():
            context.if_trains(group, partial(self._update, inputs, context.rates[group], context))

    def _corrected_rates(self, pairs: Pairs, context: UpdateContext) -> Sequence[Scalar]:
        """The rate of each variable of `pairs`, in its dtype, with bias correction."""
        rates = [self._op.scaled(tf.cast(rate, self._dtype)) for rate in context.rates]
        groups = [member.group for member, _ in pairs]
        if not self._op.corrects_bias:
            return [rates[group] for group in groups]
        counts = context.update_counts
        assert counts is not None
        if counts.shape.rank == 0:
            by_group = {group: self._op.corrected(rates[group], counts) for group in set(groups)}
            return [by_group[group] for group in groups]
        indices = [member.index for member, _ in pairs]
        if indices != list(range(counts.shape[0])):
            counts = tf.gather(counts, indices)
        # One small vector for all variables costs less than a few scalars for each.
        return tf.unstack(self._op.corrected(tf.gather(tf.stack(rates), groups), counts), len(groups))

    def _update(
        self,
        inputs: Sequence[tuple[GroupedVariable, Gradient, Scalar]],
        group_rate: Scalar,
        context: UpdateContext,
    ) -> None:
        scalars = self._op.scalars(self._dtype)
        group_rate = tf.cast(group_rate, self._dtype)
        decays: dict[float, Scalar] = {}
        for member, gradient, rate in inputs:
            if member.decay and member.decay not in decays:
                decays[member.decay] = group_rate * tf.constant(member.decay, self._dtype)
            slots = tuple(slot.value for slot in self._slots[member.name])
            given = (gradient, rate, decays.get(member.decay), slots, scalars)
            on_each_device(member.variable, self._update_one, given)
        if self._averaging is not None:
            self._average(self._averaging, [member for member, _, _ in inputs], context)
        for member, _, _ in inputs:
            constraint = member.variable.constraint
            if constraint is not None:
                on_each_device(member.variable, lambda v, constrain=constraint: v.assign(constrain(v)), ())

    def _update_one(
        self,
        variable: tf.Variable,
        gradient: Gradient,
        rate: Scalar,
        decay: Scalar | None,
        slots: Sequence[tf.Variable],
        scalars: Sequence[Scalar],
    ) -> None:
        if gradient.dtype != self._dtype:
            gradient = tf.cast(gradient, self._dtype)
        if decay is not None:
            variable.assign_sub(variable * decay)
        update = self._op.update_rows if isinstance(gradient, tf.IndexedSlices) else self._op.update
        update(variable, gradient, rate, slots, list(scalars))

    def _average(
        self, averaging: Averaging, members: Sequence[GroupedVariable], context: UpdateContext
    ) -> None:
        assert context.update_counts is not None
        started = tf.cast(context.update_counts > 1, self._dtype) * averaging.momentum
        for member in members:
            inputs = (self._averages[member.name].value, started[member.index])
            on_each_device(member.variable, _move_average, inputs)

        def overwrite() -> None:
            for member in members:
                average = self._averages[member.name].value
                on_each_device(member.variable, lambda variable, value: variable.assign(value), (average,))

        if averaging.overwrite_every:
            due = tf.equal((tf.convert_to_tensor(context.iterations) + 1) % averaging.overwrite_every, 0)
            when(due, overwrite)


def _move_average(variable: tf.Variable, average: tf.Variable, momentum: Scalar) -> None:
    # As Keras writes it, to the last bit.
    average.assign(momentum * average + (1 - momentum) * variable)
