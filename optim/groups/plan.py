"""The plan: each trainable variable of a model in exactly one group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from ..common.arguments import real_number
from ..common.messages import first_few
from ..common.tables import align_columns
from .group import Group


@dataclass(frozen=True, eq=False)
class Plan:
    """Which group each trainable variable belongs to, and how each group is updated. `partition` makes it.

    A plan never changes: `freeze`, `unfreeze` and so on return a new one. `GroupedOptimizer.plan` is the plan
    in use. `print(plan)` shows it as a table.

    Attributes:
        groups: the settings of each group, by name.
        members: the variables of each group: group -> stable name -> variable.
        order: all names, in `model.trainable_variables` order.
        batch_norms: each BatchNorm layer's name, and the names of its variables here.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> plan = partition(model, {"body": "body", "head": "head"}).freeze("body")
        >>> plan.order, len(plan.trained)
        (('body/kernel', 'body/bias', 'head/kernel', 'head/bias'), 2)
    """

    groups: Mapping[str, Group]
    members: Mapping[str, Mapping[str, keras.Variable]]
    order: Sequence[str]
    batch_norms: Sequence[tuple[str, Sequence[str]]] = ()

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """All variables by stable name, in `model.trainable_variables` order."""
        by_name = {name: v for members in self.members.values() for name, v in members.items()}
        return {name: by_name[name] for name in self.order}

    @property
    def group_of(self) -> dict[str, str]:
        """The group of each variable, by stable name."""
        return {name: group for group, members in self.members.items() for name in members}

    @property
    def trained(self) -> list[keras.Variable]:
        """The variables of all groups that are not frozen, in `model.trainable_variables` order."""
        return self._variables(frozen=False)

    @property
    def frozen(self) -> list[keras.Variable]:
        """The variables of all frozen groups, in `model.trainable_variables` order."""
        return self._variables(frozen=True)

    def _variables(self, frozen: bool) -> list[keras.Variable]:
        group_of = self.group_of
        return [v for name, v in self.variables.items() if self.groups[group_of[name]].frozen is frozen]

    @property
    def frozen_batch_norms(self) -> list[str]:
        """The BatchNorm layers that the plan freezes, and that no layer's `trainable = False` does."""
        group_of, variables = self.group_of, self.variables
        return [
            layer
            for layer, names in self.batch_norms
            if all(self.groups[group_of[name]].frozen and variables[name].trainable for name in names)
        ]

    def freeze(self, *names: str) -> Plan:
        """The same plan with these groups frozen. ValueError for a name that is no group."""
        return self._changed(names, frozen=True)

    def unfreeze(self, *names: str) -> Plan:
        """The same plan with these groups training. ValueError for a name that is no group."""
        return self._changed(names, frozen=False)

    def rescale(self, name: str, lr_scale: float) -> Plan:
        """The same plan with another `lr_scale` for one group.

        Args:
            name: of a group that follows the optimizer's rate.
            lr_scale: its rate over the optimizer's, at least 0.

        Raises:
            TypeError: `lr_scale` is no number.
            ValueError: no such group, a group with a `learning_rate` of its own, or a negative `lr_scale`.
        """
        self.check_names([name])
        scale = real_number("lr_scale", lr_scale, at_least=0)
        if self.groups[name].learning_rate is not None:
            raise ValueError(
                f"group {name!r} has a learning rate of its own ({self.groups[name].rate_text}), which "
                "`lr_scale` does not affect: use `set_learning_rate`, or make the plan with `lr_scale`"
            )
        return self._changed([name], lr_scale=scale)

    def set_learning_rate(self, name: str, learning_rate: float) -> Plan:
        """The same plan with another learning rate for one group.

        Args:
            name: of a group whose own rate is a number.
            learning_rate: at least 0.

        Raises:
            TypeError: `learning_rate` is no number.
            ValueError: no such group, a group that follows the optimizer or a schedule, or a negative rate.
        """
        self.check_names([name])
        rate = real_number("learning_rate", learning_rate, at_least=0)
        own = self.groups[name].learning_rate
        if own is None:
            whose, setting = "the optimizer's learning rate", " set `optimizer.learning_rate`,"
            if self.groups[name].optimizer is not None:
                whose, setting = "the learning rate of its own optimizer", ""
            raise ValueError(
                f"group {name!r} follows {whose}: use `rescale`,{setting} or make the plan with "
                "`Group(..., learning_rate=...)`"
            )
        if isinstance(own, keras.optimizers.schedules.LearningRateSchedule):
            most = getattr(own, "max_rate", None)
            allowed = "" if most is None else f", which allows at most {most:.4g}"
            raise ValueError(
                f"`learning_rate` of group {name!r} follows a {type(own).__name__} schedule{allowed}; "
                f"it cannot be set to {rate:.4g}: make the plan with another schedule or with a number"
            )
        return self._changed([name], learning_rate=rate)

    def check_names(self, names: Sequence[str]) -> None:
        """Raises ValueError unless all `names` are groups, and there is at least one."""
        if not names:
            raise ValueError(f"`names` is empty: name at least one of the groups {name_list(self.groups)}")
        for name in names:
            if name not in self.groups:
                raise ValueError(
                    f"`names` holds {name!r}, which is no group: the groups are {name_list(self.groups)}"
                )

    def _changed(self, names: Sequence[str], **settings: Any) -> Plan:
        self.check_names(names)
        groups = dict(self.groups)
        for name in names:
            groups[name] = replace(groups[name], **settings)
        return replace(self, groups=groups)

    def __str__(self) -> str:
        rows = [["group", "variables", "parameters", "learning rate", "weight decay", "state"]]
        count = trains = 0
        for name, group in self.groups.items():
            parameters = sum(math.prod(v.shape) for v in self.members[name].values())
            count += parameters
            trains += parameters * (not group.frozen)
            optimizer = f" ({type(group.optimizer).__name__})" if group.optimizer is not None else ""
            counts = [f"{len(self.members[name]):,}", f"{parameters:,}"]
            settings = [group.rate_text + optimizer, group.decay_text]
            rows.append([name, *counts, *settings, "frozen" if group.frozen else "trains"])
        totals = (
            f"{len(self.groups):,} groups, {len(self.order):,} variables, {count:,} parameters, "
            f"{trains:,} train"
        )
        return "\n".join([*align_columns(rows, right=(1, 2)), totals])


def name_list(names: Iterable[str]) -> str:
    """Names in quotes, for messages."""
    return first_few([repr(name) for name in names], limit=10)
