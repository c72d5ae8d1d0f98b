"""A plan at work: its state on the device, and the order in which an update happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..gradients.clipping import clipped
from ..gradients.replicas import add_one, in_replica, replica_count, sum_over_replicas, when
from ..gradients.sparse import Gradient, times, where
from ..groups.plan import Plan
from ..updates.base import Averaging, GroupedVariable, UpdateContext, Work, merged_state, new_slot
from ..updates.fused_updater import FusedUpdater
from ..updates.keras_updater import KerasUpdater
from .assign_updaters import assign_updaters, grouped_variables
from .group_rates import Rates
from .named_state import StateError

Pairs = list[tuple[GroupedVariable, Gradient]]


class GroupedUpdate:
    """Updates the variables of a plan: sum over replicas, unscale, accumulate, clip, update, count.

    Args:
        plan: the plan.
        optimizer: the optimizer to update like; read, not changed.
    """

    def __init__(self, plan: Plan, optimizer: keras.optimizers.Optimizer) -> None:
        self.plan = plan
        self._accumulate = optimizer.gradient_accumulation_steps or 1
        self.members = grouped_variables(plan, optimizer)
        self.parts = assign_updaters(plan, optimizer, list(self.members.values()), Averaging.of(optimizer))
        self._part_of = {member.name: part for part in self.parts for member in part.members}
        self._rates = Rates(list(plan.groups.values()))
        self._active = _shared([not group.frozen for group in plan.groups.values()], tf.bool)
        self._counts: keras.Variable | None = None
        if any(isinstance(part, FusedUpdater) and part.counts for part in self.parts):
            self._counts = keras.Variable(
                np.zeros(len(self.members), "int64"),
                trainable=False,
                aggregation="only_first_replica",
                name="updates",
            )
        self._sums: dict[str, keras.Variable] = {}
        self.state = dict(merged_state(self.parts))
        if self._accumulate > 1:
            self._sums = {
                member.name: new_slot(member, "gradient_accumulator") for member in self.members.values()
            }
            self._calls = keras.Variable(0, dtype="int64", trainable=False, name="calls")
            self.state |= {f"{name}/gradient_accumulator": total for name, total in self._sums.items()}
            self.state["calls"] = self._calls
        # Which parts there are depends on groups that share an optimizer object, which no file tells.
        place = {name: index for index, name in enumerate(plan.order)}
        ordered = sorted(self.state, key=lambda name: place.get(name.rpartition("/")[0], len(place)))
        self.state = {name: self.state[name] for name in ordered}

    def change(self, plan: Plan) -> None:
        """Takes over other settings of the same groups."""
        groups = list(plan.groups.values())
        self._rates.set(groups)
        self._active.assign([not group.frozen for group in groups])
        self.plan = plan

    def rates(self, optimizer: keras.optimizers.Optimizer) -> list[tf.Tensor]:
        """The rate of each group in the next update."""
        return self._rates.now(optimizer.learning_rate, optimizer.iterations)

    def update(self, optimizer: keras.optimizers.Optimizer, work: Work, live: bool, summed: bool) -> None:
        """One call of `optimizer.apply`.

        Args:
            optimizer: whose base rate, counter, clipping and loss scale hold now.
            work: members and their gradients.
            live: whether the graph is to look at each group's state whenever it runs.
            summed: whether the gradients are sums over replicas already.
        """
        groups = list(self.plan.groups.values())
        pairs = [(m, g) for m, g in work if live or not groups[m.group].frozen]
        for member, gradient in pairs:
            if member.variable.overwrite_with_gradient:
                # What float8 layers call the gradient of a scale is its new value.
                member.variable.assign(gradient)
        pairs = [(m, g) for m, g in pairs if not m.variable.overwrite_with_gradient]
        if not pairs:
            add_one(optimizer.iterations)
            return
        if not summed:
            sums = sum_over_replicas([gradient for _, gradient in pairs])
            pairs = [(member, total) for (member, _), total in zip(pairs, sums)]
        if optimizer.loss_scale_factor is not None:
            pairs = [(m, times(g, 1.0 / optimizer.loss_scale_factor)) for m, g in pairs]
        if self._accumulate == 1:
            self._step(optimizer, pairs, live)
            return
        if replica_count() > 1:
            raise ValueError(
                f"`gradient_accumulation_steps={self._accumulate}` does not work on {replica_count()} "
                "replicas: accumulate outside the optimizer, with `loops.Update(accumulate=...)`"
            )
        for member, gradient in pairs:
            total = self._sums[member.name]
            total.assign_add(tf.cast(tf.convert_to_tensor(gradient), total.dtype))
        calls = self._calls.value.assign_add(1)
        due = tf.equal(calls % self._accumulate, 0)
        when(due, lambda: self._step_by_sums(optimizer, [member for member, _ in pairs], live))

    def _step_by_sums(self, optimizer: Any, members: Sequence[GroupedVariable], live: bool) -> None:
        sums = [self._sums[member.name].value for member in members]
        self._step(optimizer, [(m, total / self._accumulate) for m, total in zip(members, sums)], live)
        # Also what frozen variables have from before: it is not to come up when they train again.
        for total in self._sums.values():
            total.assign(tf.zeros_like(total))

    def _step(self, optimizer: Any, pairs: Pairs, live: bool) -> None:
        active = self._trains() if live else None
        members = [member for member, _ in pairs]
        counted = None if active is None else [active[member.group] for member in members]
        gradients = clipped(optimizer, [gradient for _, gradient in pairs], counted)

        def on_all(gradients: Sequence[Gradient]) -> None:
            moment = self._moment(optimizer, members, live)
            work: dict[int, Pairs] = {}
            for member, gradient in zip(members, gradients):
                work.setdefault(id(self._part_of[member.name]), []).append((member, gradient))
            for part in self.parts:
                if id(part) in work:
                    part.apply(work[id(part)], moment)
            if self._counts is not None:
                self._counts.value.assign(moment.updates)
            add_one(optimizer.iterations)

        if in_replica():
            context = tf.distribute.get_replica_context()
            context.merge_call(lambda _, given: on_all(given), args=(gradients,))
        else:
            on_all(gradients)

    def without_frozen(self, pairs: Pairs) -> list[Gradient]:
        """The gradients of `pairs`, zero where a group is frozen now."""
        active = self._trains()
        return [where(active[member.group], gradient) for member, gradient in pairs]

    def _trains(self) -> list[tf.Tensor]:
        """For each group, whether it trains now."""
        return tf.unstack(tf.convert_to_tensor(self._active), len(self.plan.groups))

    def _moment(self, optimizer: Any, members: Sequence[GroupedVariable], live: bool) -> UpdateContext:
        active = self._trains() if live else None
        updates = None
        if self._counts is not None:
            given = {member.position for member in members}
            new = tf.constant([int(i in given) for i in range(len(self.members))], tf.int64)
            if live:
                groups = [member.group for member in self.members.values()]
                new *= tf.cast(tf.gather(self._active, groups), tf.int64)
            updates = self._counts.value + new
        return UpdateContext(self.rates(optimizer), active, updates, optimizer.iterations)

    def stored(self) -> dict[str, keras.Variable]:
        """State and counters, in an order that the plan alone decides."""
        return self.state | self.counters()

    def counters(self) -> dict[str, keras.Variable]:
        """The variables behind `numbers`."""
        found = {} if self._counts is None else {"updates": self._counts}
        for part in self.parts:
            if isinstance(part, KerasUpdater):
                found[f"{part.members[0].name}/updates"] = part.iterations
        return found

    def numbers(self) -> dict[str, int]:
        """How many updates each variable has had, where that matters."""
        counts = {} if self._counts is None else dict(zip(self.members, self._counts.numpy().tolist()))
        for part in self.parts:
            if isinstance(part, KerasUpdater):
                counts.update({member.name: int(part.iterations.numpy()) for member in part.members})
        return counts

    def set_numbers(self, saved: dict[str, int], partial: bool) -> None:
        """Takes over what `numbers` gave.

        Raises:
            StateError: the variables of a group under a Keras optimizer, which counts for all of them, have
                had different numbers of updates, and `partial` is false.
        """
        largest = []
        for part in self.parts:
            if isinstance(part, KerasUpdater):
                counts = {saved[member.name] for member in part.members if member.name in saved}
                if len(counts) > 1 and not partial:
                    group = list(self.plan.groups)[part.members[0].group]
                    raise StateError(
                        f"the checkpoint is of another plan: the variables of group {group!r} have had "
                        f"{sorted(counts)} updates, and its optimizer counts for all of them; load within "
                        "`with optimizer.partial_load():` to take the largest count"
                    )
                if counts:
                    largest.append((part, max(counts)))
        for part, count in largest:
            part.iterations.assign(count)
        if self._counts is not None:
            now = zip(self.members, self._counts.numpy().tolist())
            self._counts.assign([saved.get(name, count) for name, count in now])

    def settle_averages(self) -> None:
        """Sets averages of variables that have not been updated, which hold nothing yet, to their values."""
        counts = self.numbers()
        for name, member in self.members.items():
            if not counts[name]:
                self.state[f"{name}/average"].assign(member.variable)

    def overwrite_by_averages(self, members: Sequence[GroupedVariable]) -> None:
        """Sets variables to their averages, if they have been updated."""
        counts = self.numbers()
        for member in members:
            if counts[member.name]:
                member.variable.assign(self.state[f"{member.name}/average"])


def _shared(values: Sequence[Any], dtype: tf.DType) -> tf.Variable:
    return tf.Variable(
        tf.constant(values, dtype), trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
    )
