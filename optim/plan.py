"""The plan: each trainable variable of a model in exactly one group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import keras

from .checks import real
from .filters import Filter, FilterLike, as_filter, nothing_matched
from .group import Group
from .layout import Layout
from .matching import SelectionError, brief, shortened
from .names import layout_of
from .select import frozen_by
from .table import aligned

REST = ("error", "freeze", "train")


@dataclass(frozen=True, eq=False)
class Plan:
    """Which group each trainable variable belongs to, and how each group is updated. `partition` makes it.

    A plan never changes: `freeze` and its like return another one. `GroupedOptimizer.plan` is the plan in
    force. `print(plan)` shows it as a table.

    Attributes:
        groups: the settings of each group, by name.
        members: the variables of each group: group -> stable name -> variable.
        order: all names, in `model.trainable_variables` order.

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

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """All variables by stable name, in `model.trainable_variables` order."""
        together = {name: v for members in self.members.values() for name, v in members.items()}
        return {name: together[name] for name in self.order}

    @property
    def group_of(self) -> dict[str, str]:
        """The group of each variable, by stable name."""
        return {name: group for group, members in self.members.items() for name in members}

    @property
    def trained(self) -> list[keras.Variable]:
        """The variables of all groups that are not frozen, in `model.trainable_variables` order."""
        group_of = self.group_of
        return [v for name, v in self.variables.items() if not self.groups[group_of[name]].frozen]

    @property
    def frozen(self) -> list[keras.Variable]:
        """The variables of all frozen groups, in `model.trainable_variables` order."""
        trained = {id(variable) for variable in self.trained}
        return [variable for variable in self.variables.values() if id(variable) not in trained]

    def freeze(self, *names: str) -> Plan:
        """The same plan with these groups frozen."""
        return self._changed(names, frozen=True)

    def unfreeze(self, *names: str) -> Plan:
        """The same plan with these groups training."""
        return self._changed(names, frozen=False)

    def rescale(self, name: str, lr_scale: float) -> Plan:
        """The same plan with another scale for one group."""
        self.check_names([name])
        scale = real("lr_scale", lr_scale, at_least=0)
        if self.groups[name].learning_rate is not None:
            raise ValueError(
                f"group {name!r} has a learning rate of its own ({self.groups[name].rate_text}), which "
                "`lr_scale` does not touch: use `set_learning_rate`, or make the plan with `lr_scale`"
            )
        return self._changed([name], lr_scale=scale)

    def set_learning_rate(self, name: str, learning_rate: float) -> Plan:
        """The same plan with another rate for one group that has its own."""
        self.check_names([name])
        rate = real("learning_rate", learning_rate, at_least=0)
        own = self.groups[name].learning_rate
        if own is None and self.groups[name].optimizer is not None:
            raise ValueError(
                f"group {name!r} follows the learning rate of its own optimizer: use `rescale`, or make the "
                "plan with `Group(..., learning_rate=...)`"
            )
        if own is None:
            raise ValueError(
                f"group {name!r} follows the optimizer's learning rate: use `rescale`, set "
                "`optimizer.learning_rate`, or make the plan with `Group(..., learning_rate=...)`"
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
        """Raises ValueError unless all `names` are groups, and there is one at least."""
        if not names:
            raise ValueError(f"`names` is empty: name at least one of the groups {_names(self.groups)}")
        for name in names:
            if name not in self.groups:
                raise ValueError(
                    f"`names` holds {name!r}, which is no group: the groups are {_names(self.groups)}"
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
            rows.append(
                [
                    name,
                    f"{len(self.members[name]):,}",
                    f"{parameters:,}",
                    group.rate_text + optimizer,
                    group.decay_text,
                    "frozen" if group.frozen else "trains",
                ]
            )
        totals = (
            f"{len(self.groups):,} groups, {len(self.order):,} variables, {count:,} parameters, "
            f"{trains:,} train"
        )
        return "\n".join([*aligned(rows, right=(1, 2)), totals])


def partition(
    model: keras.layers.Layer,
    groups: Mapping[str, Group | FilterLike],
    rest: str = "error",
) -> Plan:
    """Puts each trainable variable of a model in exactly one group.

    Args:
        model: a built model or layer.
        groups: name -> `Group`, or a filter for a group with default settings.
        rest: what becomes of variables that no group takes: "error" raises; "freeze" and "train" put them
            in a last group called `rest`, frozen or with default settings.

    Returns:
        The plan.

    Raises:
        SelectionError: groups that overlap; a variable left over; a group that matches nothing, or that
            names a layer with `trainable = False`.
        ValueError: no groups, a bad name, or a bad `rest`.
        TypeError: a group that is neither a `Group` nor a filter.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv1"),
        ...     keras.layers.Flatten(), keras.layers.Dense(2, name="fc")])
        >>> plan = partition(model, {"backbone": Group("conv*", lr_scale=0.1), "head": "fc"})
        >>> print(plan)
        group     variables  parameters  learning rate  weight decay  state
        backbone          2          20  x 0.1          optimizer's   trains
        head              2         146  x 1            optimizer's   trains
        2 groups, 4 variables, 166 parameters, 166 train
    """
    settings = _checked_groups(groups)
    if rest not in REST:
        raise ValueError(f"`rest` must be one of {_names(REST)}, got {brief(rest)}")
    layout = layout_of(model)
    trains = layout.trainable()
    owners: list[str | None] = [None] * len(layout.infos)
    overlaps: dict[tuple[str, str], list[str]] = {}
    for name, group in settings.items():
        for index in _hits(name, as_filter(group.where), layout, trains):
            taken = owners[index]
            if taken is not None:
                overlaps.setdefault((taken, name), []).append(layout.infos[index].name)
            owners[index] = name
    if overlaps:
        raise SelectionError(_overlap_message(overlaps))
    _settle_rest(rest, settings, owners, layout, trains)
    # In the order of `trainable_variables`, which is what loops and `fit` have their gradients in.
    names = {id(info.variable): (info.name, owner) for info, owner in zip(layout.infos, owners)}
    members: dict[str, dict[str, keras.Variable]] = {name: {} for name in settings}
    order = []
    for variable in model.trainable_variables:
        name, owner = names[id(variable)]
        assert owner is not None
        members[owner][name] = variable
        order.append(name)
    return Plan(groups=settings, members=members, order=tuple(order))


def _checked_groups(groups: Mapping[str, Group | FilterLike]) -> dict[str, Group]:
    if not isinstance(groups, Mapping):
        raise TypeError(f"`groups` must be a dict of name -> Group or filter, got {brief(groups)}")
    if not groups:
        raise ValueError("`groups` is empty: give at least one, such as {'all': optim.Group('*')}")
    for name in groups:
        if not isinstance(name, str) or not name:
            raise ValueError(f"`groups` has the name {brief(name)}: names must be non-empty strings")
    return {name: g if isinstance(g, Group) else Group(g) for name, g in groups.items()}


def _hits(name: str, where: Filter, layout: Layout, trains: Sequence[bool]) -> list[int]:
    """The indices of a group's variables."""
    try:
        mask = where.mask(layout)
        if not any(mask):
            raise nothing_matched(where, layout)
    except SelectionError as error:
        raise SelectionError(f"group {name!r}: {error}") from error
    # Most masks of a large plan are nearly empty: only what they hit is looked at.
    found = list(compress(range(len(mask)), mask))
    hits = [index for index in found if trains[index]]
    # Moving statistics never train, and no filter need leave them out; a frozen layer contradicts the plan.
    barred: dict[str, str] = {}
    for index in found if len(hits) < len(found) else ():
        by = None if trains[index] else frozen_by(layout.owners[index], layout)
        if by is not None:
            barred[layout.infos[index].name] = by
    if barred:
        raise SelectionError(
            f"group {name!r} names frozen variables: {shortened(list(barred))}, by `trainable = False` on "
            f"{shortened(list(dict.fromkeys(barred.values())))}. Set it to True and freeze in the plan "
            "(`Group(..., frozen=True)`), or leave the layer out of the group"
        )
    if not hits:
        raise SelectionError(
            f"group {name!r}: {where!r} matches only variables that never train, like moving statistics"
        )
    return hits


def _settle_rest(
    rest: str,
    settings: dict[str, Group],
    owners: list[str | None],
    layout: Layout,
    trains: Sequence[bool],
) -> None:
    left = [i for i, owner in enumerate(owners) if trains[i] and owner is None]
    if not left:
        return
    names = [layout.infos[index].name for index in left]
    if rest == "error":
        raise SelectionError(
            f"{len(left)} of {sum(trains)} trainable variables are in no group: {shortened(names)}. Add a "
            "group for them, or pass `rest=\"freeze\"` or `rest=\"train\"`"
        )
    if "rest" in settings:
        raise ValueError(
            f"`groups` already has a group called 'rest', and `rest={rest!r}` needs that name for "
            f"{shortened(names)}"
        )
    chosen = {id(layout.infos[index].variable) for index in left}
    settings["rest"] = Group(lambda info: id(info.variable) in chosen, frozen=rest == "freeze")
    for index in left:
        owners[index] = "rest"


def _overlap_message(overlaps: Mapping[tuple[str, str], Sequence[str]]) -> str:
    parts = [f"{one!r} and {other!r} share {shortened(names)}" for (one, other), names in overlaps.items()]
    return (
        f"`groups` overlap: {'; '.join(parts[:5])}. Each variable belongs to one group: narrow one of them, "
        "for instance with `&` and `~`"
    )


def _names(names: Mapping[str, Any] | Sequence[str]) -> str:
    return shortened([repr(name) for name in names], limit=10)
