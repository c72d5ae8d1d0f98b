"""Variables that a Keras optimizer updates by its own `update_step`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from ..common.optimizers import SHARED_SETTINGS, overridden
from ..common.types import Gradient, Scalar
from ..gradients.given import is_new_value
from ..gradients.replicas import apply_sums
from ..private.keras_private import raw_learning_rate, tracked
from ..private.optimizer_copies import fresh_copy, settings_of
from .base import Averaging, GroupedVariable, Pairs, UpdateContext, Updater
from .slots import slots_of
from .weight_copies import WeightCopies

_NOTHING = object()


class KerasUpdater(Updater):
    """The variables of one group under a Keras optimizer of their own, driven with the group's rate.

    One optimizer a group, because some (Nadam) hold state that every call moves on, and all decay weights by
    their own rate.

    Args:
        optimizer: the optimizer to copy.
        decay: the group's weight decay; None for what `optimizer` has.
        exempt: variables that do not decay.

    Attributes:
        optimizer: the copy.
    """

    fused = False
    needs_update_counts = False

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        members: Sequence[GroupedVariable],
        decay: float | None,
        exempt: Sequence[keras.Variable],
        averaging: Averaging | None,
    ) -> None:
        self.members = members
        self._rate: float | Scalar = 0.0
        self._settable = isinstance(raw_learning_rate(optimizer), float)
        # Adafactor looks at whether its rate is a number, so a number stays one.
        # In `.h5` files each variable needs a path of its own, and the copies' counters have one name.
        with keras.name_scope(f"group_{members[0].group}"), tracked():
            self.optimizer = fresh_copy(optimizer, 0.0 if self._settable else lambda: self._rate)
        updated = [member for member in members if not is_new_value(member.variable)]
        self._known: Mapping[str, Any] = settings_of(optimizer)
        self.follow(self._known, decay, exempt, averaging)
        with tracked():
            self.optimizer.build([member.variable for member in updated])
        self._copies = WeightCopies(self.optimizer, [member.variable for member in updated])
        self._state = _named_state(self.optimizer, updated)
        self.own_count = self.optimizer.iterations

    def state(self) -> dict[str, keras.Variable]:
        return self._state

    def follow(
        self,
        settings: Mapping[str, Any],
        decay: float | None,
        exempt: Sequence[keras.Variable],
        averaging: Averaging | None,
    ) -> None:
        """Takes the settings that the optimizer has now; the other arguments are those of the constructor."""
        for name, value in settings.items():
            if self._known.get(name, _NOTHING) is not value and name != "_learning_rate":
                setattr(self.optimizer, name, value)
        self._known = settings
        # What holds for all groups together is done once, around all of them.
        imposed: dict[str, float | None] = dict.fromkeys(SHARED_SETTINGS) | {"use_ema": False}
        if averaging is not None:
            imposed |= {"use_ema": True, "ema_momentum": averaging.momentum}
            imposed["ema_overwrite_frequency"] = averaging.overwrite_every
        if decay is not None:
            imposed["weight_decay"] = decay
            if hasattr(self.optimizer, "adam_weight_decay"):
                imposed["adam_weight_decay"] = decay
        for name, value in imposed.items():
            setattr(self.optimizer, name, value)
        self.optimizer.exclude_from_weight_decay(var_list=list(exempt))

    def finalize(self, variables: Sequence[keras.Variable]) -> None:
        """Has an optimizer with a `finalize_variable_values` of its own set some of the members."""
        own = overridden(type(self.optimizer), keras.optimizers.Optimizer, ["finalize_variable_values"])
        given = {id(variable) for variable in variables}
        mine = [member.variable for member in self.members if id(member.variable) in given]
        if own and mine:
            self.optimizer.finalize_variable_values(mine)

    def apply(self, pairs: Pairs, context: UpdateContext) -> None:
        group = pairs[0][0].group
        variables = [member.variable for member, _ in pairs]
        given = ([gradient for _, gradient in pairs], context.rates[group])

        def on_one(gradients: Sequence[Gradient], rate: Scalar) -> None:
            if self._settable:
                self.optimizer.learning_rate = rate
            else:
                self._rate = rate
            apply_sums(self.optimizer, gradients, variables)

        def update() -> None:
            self._copies.renew()
            if tf.distribute.in_cross_replica_context():
                tf.distribute.get_strategy().extended.call_for_each_replica(on_one, args=given)
            else:
                on_one(*given)

        context.if_trains(group, update)


def _named_state(
    optimizer: keras.optimizers.Optimizer, members: Sequence[GroupedVariable]
) -> dict[str, keras.Variable]:
    """The optimizer's state by stable names.

    A state variable that is no slot belongs to the variable whose slot comes next (the rows and columns of
    Adafactor); one at the end is in common to all (the product of Nadam).

    Raises:
        ValueError: several of the latter, which nothing tells apart.
    """
    slots = slots_of(optimizer.variables, [member.variable for member in members])
    named: dict[str, keras.Variable] = {}
    others: list[keras.Variable] = []

    def put(name: str, variable: keras.Variable) -> None:
        again = sum(known == name or known.startswith(f"{name}_") for known in named)
        named[f"{name}_{again}" if name in named else name] = variable

    for variable in optimizer.variables:
        if variable is optimizer.iterations or variable.name == "learning_rate":
            continue
        if id(variable) not in slots:
            others.append(variable)
            continue
        owner, slot = slots[id(variable)]
        for index, extra in enumerate(others):
            put(f"{members[owner].name}/extra_{index}", extra)
        put(f"{members[owner].name}/{slot}", variable)
        others = []
    if len(others) > 1:
        raise ValueError(
            f"`optimizer` {type(optimizer).__name__} makes state that belongs to no variable "
            f"({', '.join(variable.name for variable in others)}), so it cannot be saved by name: make it in "
            "`build` with `add_variable_from_reference(variable, name)`"
        )
    for variable in others:
        # Known by the variable whose name comes first, whatever their order.
        put(f"{min(member.name for member in members)}/shared", variable)
    return named
