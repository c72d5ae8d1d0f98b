"""The update of a plan's variables, and their state on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import keras
import tensorflow as tf

from ..common.messages import first_few
from ..common.types import Gradient, Scalar
from ..gradients.accumulator import GradientAccumulator
from ..gradients.clipping import clip_as_set
from ..gradients.given import but_new_values, is_new_value, reduce_over_replicas
from ..gradients.replicas import add_one, assign_each, in_replica, replica_count
from ..gradients.sparse import times, where, without_repeats
from ..groups.plan import Plan
from ..private.keras_private import RateOf
from ..updates.base import GroupedVariable, Pairs, UpdateContext, new_slot
from ..updates.keras_updater import KerasUpdater
from .assign_updaters import assign_updaters, grouped_variables
from .followed_settings import FollowedSettings
from .frozen_norms import FrozenNorms
from .group_rates import Rates, setting
from .update_counts import UpdateCounts


class GroupedUpdate:
    """Updates the variables of a plan:

        gradients = sum, unscale, accumulate, clip, as `loops.Update`
        rates = each group's learning rate now
        counts = which update this is for each variable
        for updater in updaters:                # one for each optimizer and dtype, see `assign_updaters`
            updater.apply(its variables and gradients, rates, counts)
        optimizer.iterations += 1

    Args:
        optimizer: the optimizer to update like; read, not changed.
    """

    def __init__(self, plan: Plan, optimizer: keras.optimizers.Optimizer) -> None:
        self.plan = plan  # the one in force
        self._norms = FrozenNorms()
        self.followed = FollowedSettings(plan, optimizer)  # settings that may change later
        self.traced = False  # whether a TensorFlow function has it that other settings do not trace again
        self.members = grouped_variables(plan, optimizer)
        members = list(self.members.values())
        self.updaters = assign_updaters(plan, optimizer, members)
        self._by_id = {id(member.variable): member for member in members}
        self._updater_of = {m.name: updater for updater in self.updaters for m in updater.members}
        self._rates = Rates(list(plan.groups.values()))
        self._active = setting([not group.frozen for group in plan.groups.values()], tf.bool)
        self.counts = UpdateCounts(plan, members, self.updaters)
        state = {name: slot for updater in self.updaters for name, slot in updater.state().items()}
        self._accumulator: GradientAccumulator | None = None
        if optimizer.gradient_accumulation_steps:
            sums = [new_slot(member, "gradient_accumulator") for member in members]
            calls = keras.Variable(0, dtype="int64", trainable=False, name="calls")
            state |= {f"{m.name}/gradient_accumulator": total for m, total in zip(members, sums)}
            state["calls"] = calls
            self._accumulator = GradientAccumulator(
                optimizer.gradient_accumulation_steps,
                [total.value for total in sums],
                calls.value,
                largest=[is_new_value(member.variable) for member in members],
            )
        # In an order that the plan alone decides. Which updaters there are depends on groups that share an
        # optimizer object, which no file tells.
        order = {name: index for index, name in enumerate(plan.order)}
        ordered = sorted(state, key=lambda name: order.get(name.rpartition("/")[0], len(order)))
        self.state = {name: state[name] for name in ordered}

    def unknown(self, variables: Sequence[keras.Variable]) -> list[str]:
        """The paths of those variables that are not in the plan."""
        return [getattr(v, "path", v.name) for v in variables if id(v) not in self._by_id]

    def members_of(self, variables: Sequence[keras.Variable]) -> list[GroupedVariable]:
        """The plan's entries for variables of the model.

        Raises:
            ValueError: a variable that is not in the plan.
        """
        unknown = self.unknown(variables)
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
        self._norms.tell(plan)

    def rates(self, optimizer: keras.optimizers.Optimizer, rate_of: RateOf | None = None) -> list[Scalar]:
        """The rate of each group in the next update; `rate_of` as for `apply`."""
        rates = self._rates.now(optimizer.learning_rate, optimizer.iterations)
        return rates if rate_of is None else [rate_of(rate) for rate in rates]

    def variables(self) -> dict[str, keras.Variable]:
        """State and counters by name."""
        return self.state | self.counts.variables()

    def apply(
        self,
        optimizer: keras.optimizers.Optimizer,
        pairs: Pairs,
        *,
        summed: bool = False,
        retraces: bool = False,
        rate_of: RateOf | None = None,
    ) -> None:
        """One call of `optimizer.apply`, for gradients on this replica.

        Args:
            optimizer: whose base rate, counter, clipping and loss scale hold now.
            summed: whether the gradients come from `loops.Update`: they are sums over replicas, without a
                loss scale, sparse ones with each row once.
            retraces: whether the caller traces its function again whenever other groups are frozen, as
                `loops.TrainStep` does. Frozen ones are then no part of the graph; else, in a graph, whether a
                group is frozen is asked for whenever it runs.
            rate_of: gives the rate of an update, of the one that a group is set to; None for that one.
        """
        self._follow(optimizer)
        self._norms.tell(self.plan, elsewhere=not retraces)
        conditional = not (retraces or tf.executing_eagerly())
        self.traced = self.traced or conditional
        groups = list(self.plan.groups.values())
        pairs = [(self.members[m.name], g) for m, g in pairs if conditional or not groups[m.group].frozen]
        if not pairs:
            add_one(optimizer.iterations)
            return
        members, gradients = [m for m, _ in pairs], [g for _, g in pairs]
        variables = [m.variable for m in members]
        if self._accumulator is not None and replica_count() > 1:
            raise ValueError(
                f"`gradient_accumulation_steps={self._accumulator.every}` does not work on "
                f"{replica_count()} replicas: accumulate outside the optimizer, with "
                "`loops.Update(accumulate=...)`"
            )

        def clip(gradients: list[Gradient]) -> list[Gradient]:
            counted = None
            if conditional and optimizer.global_clipnorm:
                counted = self._active_now([m for m in members if not is_new_value(m.variable)])
            return clip_as_set(optimizer, gradients, counted)

        def unscale(gradients: list[Gradient]) -> list[Gradient]:
            return [times(gradient, 1.0 / optimizer.loss_scale_factor) for gradient in gradients]

        def clip_and_update(gradients: list[Gradient]) -> None:
            if not summed:
                gradients = [without_repeats(gradient) for gradient in gradients]
            gradients = but_new_values(clip, gradients, variables)
            self._update(optimizer, members, conditional, gradients, rate_of)

        with tf.name_scope(optimizer.name):
            # In the order of `loops.Update`, which says why it is that one.
            if not summed:
                gradients = reduce_over_replicas(gradients, variables)
                if optimizer.loss_scale_factor is not None:
                    gradients = but_new_values(unscale, gradients, variables)
            if self._accumulator is None:
                clip_and_update(gradients)
            else:
                self._accumulator.add(gradients, clip_and_update, [member.index for member in members])

    def _follow(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Takes settings that were changed since the last call, as `apply` of a Keras optimizer does."""
        members = self.followed.follow(self.plan, optimizer, self.updaters)
        if members is not None:
            self.members = members
            self._by_id = {id(member.variable): member for member in members.values()}

    def _update(
        self,
        optimizer: keras.optimizers.Optimizer,
        members: Sequence[GroupedVariable],
        conditional: bool,
        gradients: list[Gradient],
        rate_of: RateOf | None,
    ) -> None:
        def on_all_replicas(gradients: Sequence[Gradient]) -> None:
            active = tf.convert_to_tensor(self._active) if conditional else None
            by_group = None if active is None else tf.unstack(active, len(self.plan.groups))
            pairs = [(m, g) for m, g in zip(members, gradients) if not is_new_value(m.variable)]
            counts = self.counts.after([m for m, _ in pairs], active)
            context = UpdateContext(self.rates(optimizer, rate_of), by_group, counts, optimizer.iterations)
            for member, value in zip(members, gradients):
                if is_new_value(member.variable):
                    context.if_trains(member.group, partial(assign_each, member.variable, value))
            for updater in self.updaters:
                mine = [(m, g) for m, g in pairs if self._updater_of[m.name] is updater]
                if mine:
                    updater.apply(mine, context)
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
        """The gradients, zero for variables of frozen groups whatever they were.

        For what looks at all gradients before `apply`, such as a norm or a check for NaN: in a graph, each
        group's state is asked for whenever it runs.
        """
        active = self._active_now(self.members_of(variables))
        return [where(trains, gradient) for trains, gradient in zip(active, gradients)]

    def _active_now(self, members: Sequence[GroupedVariable]) -> list[Scalar]:
        """For each variable, whether its group trains when this runs."""
        active = tf.unstack(self.groups_training(), len(self.plan.groups))
        return [active[member.group] for member in members]

    def groups_training(self) -> tf.Tensor:
        """For each group, whether it trains when this runs: bool, (groups,)."""
        return tf.convert_to_tensor(self._active)

    def averages(self) -> Iterator[keras.Variable]:
        """The average of each variable, set to its value before its first update: it holds nothing yet."""
        counts = self.counts.by_name()
        for name, member in self.members.items():
            average = self.state.get(f"{name}/average")
            if average is None:  # of a new value (`is_new_value`)
                average = new_slot(member, "average")
            if is_new_value(member.variable) or not counts[name]:
                average.assign(member.variable)
            yield average

    def finalize(self, variables: Sequence[keras.Variable], use_ema: bool) -> None:
        """Sets variables to their averages, if there are any and they have been updated."""
        for updater in self.updaters:
            if isinstance(updater, KerasUpdater):
                updater.finalize(variables)
        counts = self.counts.by_name()
        for member in self.members_of(variables) if use_ema else []:
            if counts[member.name] and not is_new_value(member.variable):
                member.variable.assign(self.state[f"{member.name}/average"])
