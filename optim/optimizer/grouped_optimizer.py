"""One optimizer with a learning rate for every group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import keras
import tensorflow as tf

from ..common.messages import first_few, short_repr
from ..common.optimizers import overridden
from ..common.types import Gradient, Json, Scalar
from ..gradients.given import as_gradient
from ..groups.group import check_optimizer
from ..groups.plan import Plan
from ..groups.saved_plan import SavedPlan
from ..private.keras_private import raw_learning_rate
from .binding import Internals
from .followed_settings import FOLLOWED, check_set, warn_of_lost
from .saving import GroupedState


@keras.saving.register_keras_serializable(package="gradloop")
class GroupedOptimizer(GroupedState):
    """A Keras optimizer whose groups have their own learning rate, weight decay, frozen state or algorithm.

    It updates as `optimizer` would: by one fused TensorFlow kernel per variable if there is one (SGD with
    and without momentum or Nesterov, Adagrad, Adadelta, RMSprop, Adam, AdamW; float32 and float64
    variables), else by Keras' own `update_step`. `fused` says which; the numbers are the same.

    Clipping, `use_ema`, `loss_scale_factor` and `gradient_accumulation_steps` of `optimizer` apply to all
    groups together: `global_clipnorm` limits the norm over everything that trains, and schedules count
    updates, not the batches that are accumulated. The limits, `weight_decay` and
    `exclude_from_weight_decay` (for all groups) can be set here later, as on any Keras optimizer. A row that
    occurs twice in a sparse gradient counts once, with the sum.

    Bias correction counts the updates of each variable, so a variable that is unfrozen late starts as in a
    new optimizer. State exists for every variable from the start, and is saved by stable name in `.keras`,
    `.weights.h5` and `tf.train.Checkpoint` files. The base learning rate is part of the state. The groups'
    settings (scales, rates of their own, what is frozen) belong to the plan: `.keras` and `.h5` files hold
    the plan as it is when they are saved, other files do not hold it. What Keras reads from `.h5` becomes
    plan and state when the optimizer is built: by the first step, or by
    `optimizer.build(model.trainable_variables)`.

    Args:
        optimizer: a stock Keras optimizer or one of your own, not built yet. It is read, not changed. One
            without a kernel updates each group by a copy of it, so what it computes over all gradients (in
            an `apply` of its own) it computes over a group's.
        plan: what `partition` returns.
        name: the optimizer's name; None for one that Keras gives.

    Raises:
        TypeError: `optimizer` is no Keras optimizer, `plan` is no `Plan`.
        ValueError: `optimizer` is built already.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> plan = partition(model, {"body": Group("body", lr_scale=0.1), "head": "head"})
        >>> optimizer = GroupedOptimizer(keras.optimizers.AdamW(1e-3), plan)
        >>> {name: round(rate, 6) for name, rate in optimizer.learning_rates.items()}
        {'body': 0.0001, 'head': 0.001}
        >>> optimizer.rescale("body", 0.5)  # half of the optimizer's rate from now on
        >>> optimizer.freeze("body")
        >>> [variable.path.split("/", 1)[1] for variable in optimizer.plan.trained]
        ['head/kernel', 'head/bias']
        >>> optimizer.fused
        True

    Reference: Howard & Ruder 2018, "Universal language model fine-tuning for text classification"
    (discriminative learning rates); the algorithms are those of `keras.optimizers`.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, plan: Plan | SavedPlan, name: str | None = None
    ) -> None:
        if isinstance(optimizer, GroupedOptimizer):
            raise ValueError(
                f"`optimizer` {optimizer.name!r} is a GroupedOptimizer itself: pass a fresh Keras optimizer, "
                "such as keras.optimizers.AdamW(1e-3)"
            )
        check_optimizer("optimizer", optimizer)
        if not isinstance(plan, (Plan, SavedPlan)):
            raise TypeError(f"`plan` must be what `optim.partition` returns, got {short_repr(plan)}")
        # Not those of averaging and accumulating, which Keras would do too.
        shared = {name: getattr(optimizer, name) for name in FOLLOWED}
        super().__init__(raw_learning_rate(optimizer), name=name, **shared)
        self._internals = Internals(optimizer, None if isinstance(plan, Plan) else plan)
        if isinstance(plan, Plan):
            self._use(plan)

    def __setattr__(self, name: str, value: object) -> None:
        """Sets an attribute; settings hold from the next update on, as those of Keras' optimizers do."""
        update = self._internals.update if "_internals" in vars(self) else None
        if update is not None:
            check_set(self, name, value, update.traced)
        super().__setattr__(name, value)

    @property
    def plan(self) -> Plan:
        """The plan in force. `freeze`, `unfreeze`, `rescale` and `set_learning_rate` change it."""
        return self.grouped_update.plan

    @property
    def fused(self) -> bool:
        """Whether every variable is updated by a fused kernel."""
        return all(updater.fused for updater in self.grouped_update.updaters)

    @property
    def learning_rates(self) -> dict[str, float]:
        """Each group's learning rate in the next update; that of a frozen group too."""
        with tf.init_scope():
            rates = self.grouped_update.rates(self)
        return {name: float(rate.numpy()) for name, rate in zip(self.plan.groups, rates)}

    def freeze(self, *groups: str) -> None:
        """Stops updates and weight decay of groups, keeps their state; ValueError for an unknown name."""
        self.grouped_update.change(self.plan.freeze(*groups))

    def unfreeze(self, *groups: str) -> None:
        """Lets groups train again, with the state that they had; ValueError for an unknown name."""
        self.grouped_update.change(self.plan.unfreeze(*groups))

    def rescale(self, group: str, lr_scale: float) -> None:
        """Sets `lr_scale` of a group without a retrace; TypeError, ValueError as for `Plan.rescale`."""
        self.grouped_update.change(self.plan.rescale(group, lr_scale))

    def set_learning_rate(self, group: str, learning_rate: float) -> None:
        """Sets a group's own rate without a retrace; TypeError, ValueError as `Plan.set_learning_rate`."""
        self.grouped_update.change(self.plan.set_learning_rate(group, learning_rate))

    @property
    def _model_variables_moving_average(self) -> Iterator[keras.Variable]:
        """The averages in the plan's order, where `keras.callbacks.SwapEMAWeights` looks for them.

        An iterator, because Keras reads this attribute when it saves, too, and no average may change by that.
        """
        if not self.use_ema:
            raise AttributeError("only with `use_ema=True`")
        return self.grouped_update.averages()

    # AutoGraph would take this apart, slowly, in a loop of the user's.
    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]  # it has no types
    def apply(
        self, grads: Sequence[Gradient | None], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Updates the variables.

        In a graph, whether a group is frozen is asked for in each call; `loops.TrainStep` traces again
        instead.

        Args:
            grads: one a variable, of its shape; None for a variable that stays as it is.
            trainable_variables: any of the plan's, in any order; None for all, in the plan's order. Those
                of frozen groups stay as they are.

        Raises:
            ValueError: gradients for unknown variables, another number of gradients than variables, no
                gradient at all, or accumulation on several replicas.
        """
        if len(grads) == 0:
            return
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        if trainable_variables is None:
            trainable_variables = list(self.plan.variables.values())
        if len(grads) != len(trainable_variables):
            raise ValueError(
                f"`grads` has {len(grads)} entries for {len(trainable_variables)} variables: one each"
            )
        self.take_in(trainable_variables)
        members = self.grouped_update.members_of(trainable_variables)
        given = [(m, g) for m, g in zip(members, grads) if g is not None]
        pairs = [(m, as_gradient("grads", m.name, m.variable, g)) for m, g in given]
        if not pairs:
            raise ValueError(
                "`grads` holds None alone: the loss depends on none of "
                f"{first_few([member.name for member in members])}"
            )
        self.grouped_update.apply(self, pairs)

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Gradient | None, keras.Variable]]
    ) -> keras.Variable:
        """Updates the variables, as `apply` does, from pairs.

        Args:
            grads_and_vars: pairs of a gradient and its variable, as `zip(gradients, variables)` gives them;
                gradients are as for `apply`.

        Returns:
            `iterations`, the number of updates made so far.

        Raises:
            ValueError: no pairs, or as for `apply`.
        """
        gradients, variables = zip(*grads_and_vars)
        self.apply(gradients, variables)
        return self.iterations

    def scale_loss(self, loss: Scalar) -> Scalar:
        """The loss times `loss_scale_factor`, or what a method of the wrapped optimizer's own makes of it."""
        inner = self._internals.optimizer
        own = overridden(type(inner), keras.optimizers.Optimizer, ["scale_loss"])
        return inner.scale_loss(loss) if own else super().scale_loss(loss)

    def update_step(self, gradient: Gradient, variable: keras.Variable, learning_rate: Scalar) -> None:
        """Raises TypeError: learning rates belong to groups, so call `apply` instead."""
        raise TypeError("GroupedOptimizer has no single update step: call `apply(gradients, variables)`")

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """With `use_ema`, sets the variables to their averages, those without an update excepted."""
        self.grouped_update.finalize(var_list, self.use_ema)

    def get_config(self) -> dict[str, Json]:
        """The wrapped optimizer and the plan, by names: variables are bound again by `build`."""
        groups = self.saved_plan().groups.values()
        warn_of_lost(
            [o for o in (self._internals.optimizer, *(g.optimizer for g in groups)) if o is not None]
        )
        optimizer = keras.optimizers.serialize(self._internals.optimizer)
        rate = raw_learning_rate(self)
        if not isinstance(rate, float):
            rate = keras.saving.serialize_keras_object(rate)
        optimizer["config"]["learning_rate"] = rate
        now = {name: getattr(self, name) for name in FOLLOWED if name in optimizer["config"]}
        optimizer["config"].update(now)
        config = {"optimizer": optimizer, "plan": self.saved_plan().to_dict(), "name": self.name}
        update, exempt = self._internals.update, list(self._internals.exempt)
        return config | {"exempt": exempt if update is None else update.followed.exempt(update.plan, self)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, type] | None = None
    ) -> GroupedOptimizer:
        """The optimizer of a config, without variables until it is built."""
        config = deepcopy(config)  # Keras writes into what it reads
        # `keras.optimizers.deserialize` does not know every optimizer of Keras: of Lamb it returns the name.
        optimizer = keras.saving.deserialize_keras_object(config["optimizer"], custom_objects=custom_objects)
        made = cls(optimizer, SavedPlan.from_dict(config["plan"], custom_objects), name=config["name"])
        made._internals.exempt = config.get("exempt", ())  # files of earlier versions have none
        return made
