"""The update of a plan's variables, and their state on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import keras
import tensorflow as tf

from ..common.messages import first_few
from ..common.types import Gradient, Scalar
from ..gradients.accumulator import GradientAccumulator
from ..gradients.clipping import clip_as_set
from ..gradients.pipeline import GradientPipeline
from ..gradients.replicas import add_one, in_replica, replica_count
from ..gradients.sparse import times, where
from ..groups.plan import Plan
from ..updates.base import Averaging, GroupedVariable, Pairs, UpdateContext, merged_state, new_slot
from .assign_updaters import assign_updaters, grouped_variables
from .group_rates import Rates, setting
from .update_counts import UpdateCounts


class GroupedUpdate:
    """Updates the variables of a plan, by a `GradientPipeline` whose last stage is this:

        rates = each group's learning rate now
        counts = which update this is for each variable
        for updater in updaters:                # one for each optimizer and dtype, see `assign_updaters`
            updater.apply(its variables and gradients, rates, counts)
        optimizer.iterations += 1

    Args:
        plan: the plan.
        optimizer: the optimizer to update like; read, not changed.

    Attributes:
        plan: the plan in force.
        members: the plan's variables by stable name.
        updaters: what updates them.
        counts: how many updates they have had.
        state: their slots and, with accumulation, running sums, in an order that the plan alone decides.
    """

    def __init__(self, plan: Plan, optimizer: keras.optimizers.Optimizer) -> None:
        self.plan = plan
        self.members = grouped_variables(plan, optimizer)
        members = list(self.members.values())
        self.updaters = assign_updaters(plan, optimizer, members, Averaging.of(optimizer))
        self._by_id = {id(member.variable): member for member in members}
        self._updater_of = {m.name: updater for updater in self.updaters for m in updater.members}
        self._rates = Rates(list(plan.groups.values()))
        self._active = setting([not group.frozen for group in plan.groups.values()], tf.bool)
        self.counts = UpdateCounts(plan, members, self.updaters)
        self.state = merged_state(self.updaters)
        self._accumulator: GradientAccumulator | None = None
        if optimizer.gradient_accumulation_steps:
            self._accumulator = self._make_accumulator(optimizer.gradient_accumulation_steps)
        # Which updaters there are depends on groups that share an optimizer object, which no file tells.
        order = {name: index for index, name in enumerate(plan.order)}
        ordered = sorted(self.state, key=lambda name: order.get(name.rpartition("/")[0], len(order)))
        self.state = {name: self.state[name] for name in ordered}

    def _make_accumulator(self, steps: int) -> GradientAccumulator:
        sums = {m.name: new_slot(m, "gradient_accumulator") for m in self.members.values()}
        calls = keras.Variable(0, dtype="int64", trainable=False, name="calls")
        self.state |= {f"{name}/gradient_accumulator": total for name, total in sums.items()}
        self.state["calls"] = calls
        return GradientAccumulator(steps, [total.value for total in sums.values()], calls.value)

    def members_of(self, variables: Sequence[keras.Variable]) -> list[GroupedVariable]:
        """The plan's entries for variables of the model.

        Raises:
            ValueError: a variable that is not in the plan.
        """
        unknown = [getattr(v, "path", v.name) for v in variables if id(v) not in self._by_id]
        if unknown:
            raise ValueError(
                f"{len(unknown)} variables are not in the optimizer's plan: {first_few(unknown)}. The plan "
                f"holds {first_few(list(self.plan.order))}; make one for this model with "
                "`optim.partition(model, ...)`"
            )
        return [self._by_id[id(variable)] for variable in variables]

    def change(self, plan: Plan) -> None:
        """Puts another plan in force, of the same groups with other settings."""
        groups = list(plan.groups.values())
        self._rates.set(groups)
        self._active.assign([not group.frozen for group in groups])
        self.plan = plan

    def rates(self, optimizer: keras.optimizers.Optimizer) -> list[Scalar]:
        """The rate of each group in the next update."""
        return self._rates.now(optimizer.learning_rate, optimizer.iterations)

    def variables(self) -> dict[str, keras.Variable]:
        """State and counters by name."""
        return self.state | self.counts.variables()

    # -- updating ------------------------------------------------------------------------------------------

    def apply(self, optimizer: keras.optimizers.Optimizer, pairs: Pairs) -> None:
        """One call of `optimizer.apply`, with the gradients of this replica.

        In a graph, whether a group is frozen is asked for whenever the graph runs.

        Args:
            optimizer: whose base rate, counter, clipping and loss scale hold now.
            pairs: variables and their gradients.
        """
        self._run(optimizer, pairs, not tf.executing_eagerly(), summed=False)

    def apply_sums(
        self,
        optimizer: keras.optimizers.Optimizer,
        gradients: Sequence[Gradient],
        variables: Sequence[keras.Variable],
        retraces: bool,
    ) -> None:
        """The same from within another pipeline, that of `loops.Update`.

        Args:
            optimizer: as for `apply`.
            gradients: sums over replicas, sparse ones with each row once.
            variables: one for each gradient.
            retraces: whether the caller traces its function again whenever other groups are frozen, as
                `loops.TrainStep` does. Frozen ones are then no part of the graph.
        """
        conditional = not (retraces or tf.executing_eagerly())
        self._run(optimizer, list(zip(self.members_of(variables), gradients)), conditional, summed=True)

    def _run(
        self, optimizer: keras.optimizers.Optimizer, pairs: Pairs, conditional: bool, summed: bool
    ) -> None:
        groups = list(self.plan.groups.values())
        pairs = [(m, g) for m, g in pairs if conditional or not groups[m.group].frozen]
        for member, gradient in pairs:
            if member.variable.overwrite_with_gradient:
                # What float8 layers call the gradient of a scale is its new value.
                member.variable.assign(gradient)
        pairs = [(m, g) for m, g in pairs if not m.variable.overwrite_with_gradient]
        if not pairs:
            add_one(optimizer.iterations)
            return
        members, gradients = [m for m, _ in pairs], [g for _, g in pairs]
        pipeline = GradientPipeline(
            unscale=None if optimizer.loss_scale_factor is None else partial(_unscaled, optimizer),
            accumulate=None if self._accumulator is None else partial(self._accumulate, members),
            clip=partial(self._clip, optimizer, members, conditional),
            apply=partial(self._update, optimizer, members, conditional),
            rows_repeat=not summed,
        )
        with tf.name_scope(optimizer.name):
            pipeline.from_sums(gradients) if summed else pipeline(gradients)

    def _accumulate(
        self,
        members: Sequence[GroupedVariable],
        gradients: list[Gradient],
        update: Callable[[list[Gradient]], None],
    ) -> None:
        assert self._accumulator is not None
        if replica_count() > 1:
            raise ValueError(
                f"`gradient_accumulation_steps={self._accumulator.every}` does not work on "
                f"{replica_count()} replicas: accumulate outside the optimizer, with "
                "`loops.Update(accumulate=...)`"
            )
        self._accumulator.add(gradients, update, [member.index for member in members])

    def _clip(
        self,
        optimizer: keras.optimizers.Optimizer,
        members: Sequence[GroupedVariable],
        conditional: bool,
        gradients: list[Gradient],
    ) -> list[Gradient]:
        counted = None
        if conditional and optimizer.global_clipnorm:
            active = self._unstacked(tf.convert_to_tensor(self._active))
            counted = [active[member.group] for member in members]
        return clip_as_set(optimizer, gradients, counted)

    def _update(
        self,
        optimizer: keras.optimizers.Optimizer,
        members: Sequence[GroupedVariable],
        conditional: bool,
        gradients: list[Gradient],
    ) -> None:
        def on_all_replicas(gradients: Sequence[Gradient]) -> None:
            active = tf.convert_to_tensor(self._active) if conditional else None
            counts = self.counts.after(members, active)
            by_group = None if active is None else self._unstacked(active)
            context = UpdateContext(self.rates(optimizer), by_group, counts, optimizer.iterations)
            by_updater: dict[int, list[tuple[GroupedVariable, Gradient]]] = {}
            for member, gradient in zip(members, gradients):
                by_updater.setdefault(id(self._updater_of[member.name]), []).append((member, gradient))
            for updater in self.updaters:
                if id(updater) in by_updater:
                    updater.apply(by_updater[id(updater)], context)
            self.counts.assign(counts)
            add_one(optimizer.iterations)

        if in_replica():
            context = tf.distribute.get_replica_context()
            context.merge_call(lambda _, given: on_all_replicas(given), args=(gradients,))
        else:
            on_all_replicas(gradients)

    def without_frozen(
        self, gradients: Sequence[Gradient], variables: Sequence[keras.Variable]
    ) -> list[Gradient]:
        """The gradients of variables, zero where a group is frozen now."""
        active = self._unstacked(tf.convert_to_tensor(self._active))
        members = self.members_of(variables)
        return [where(active[m.group], gradient) for m, gradient in zip(members, gradients)]

    def _unstacked(self, active: tf.Tensor) -> list[Scalar]:
        return tf.unstack(active, len(self.plan.groups))

    # -- averages ------------------------------------------------------------------------------------------

    def initialize_averages(self) -> None:
        """Sets averages of variables that have not been updated, which hold nothing yet, to their values."""
        counts = self.counts.by_name()
        for name, member in self.members.items():
            if not counts[name]:
                self.state[f"{name}/average"].assign(member.variable)

    def overwrite_by_averages(self, variables: Sequence[keras.Variable]) -> None:
        """Sets variables to their averages, if they have been updated."""
        counts = self.counts.by_name()
        for member in self.members_of(variables):
            if counts[member.name]:
                member.variable.assign(self.state[f"{member.name}/average"])


def _unscaled(optimizer: keras.optimizers.Optimizer, gradients: list[Gradient]) -> list[Gradient]:
    return [times(gradient, 1.0 / optimizer.loss_scale_factor) for gradient in gradients]
