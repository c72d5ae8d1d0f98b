"""Putting each trainable variable of a model in exactly one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

import keras

from ..common.messages import first_few, short_repr
from ..filters.base import Filter, FilterLike, as_filter, nothing_matched
from ..filters.patterns import SelectionError
from ..filters.selection import frozen_by
from ..naming.model_tree import ModelTree
from ..naming.stable_names import tree_of
from .group import Group
from .plan import Plan, _names

REST = ("error", "freeze", "train")


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
        raise ValueError(f"`rest` must be one of {_names(REST)}, got {short_repr(rest)}")
    tree = tree_of(model)
    trains = tree.trainable_mask()
    owners: list[str | None] = [None] * len(tree.infos)
    overlaps: dict[tuple[str, str], list[str]] = {}
    for name, group in settings.items():
        for index in _hits(name, as_filter(group.where), tree, trains):
            taken = owners[index]
            if taken is not None:
                overlaps.setdefault((taken, name), []).append(tree.infos[index].name)
            owners[index] = name
    if overlaps:
        raise SelectionError(_overlap_message(overlaps))
    _settle_rest(rest, settings, owners, tree, trains)
    # In the order of `trainable_variables`, which is what loops and `fit` have their gradients in.
    names = {id(info.variable): (info.name, owner) for info, owner in zip(tree.infos, owners)}
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
        raise TypeError(f"`groups` must be a dict of name -> Group or filter, got {short_repr(groups)}")
    if not groups:
        raise ValueError("`groups` is empty: give at least one, such as {'all': optim.Group('*')}")
    for name in groups:
        if not isinstance(name, str) or not name:
            raise ValueError(f"`groups` has the name {short_repr(name)}: names must be non-empty strings")
    return {name: g if isinstance(g, Group) else Group(g) for name, g in groups.items()}


def _hits(name: str, where: Filter, tree: ModelTree, trains: Sequence[bool]) -> list[int]:
    """The indices of a group's variables."""
    try:
        mask = where.mask(tree)
        if not any(mask):
            raise nothing_matched(where, tree)
    except SelectionError as error:
        raise SelectionError(f"group {name!r}: {error}") from error
    # Most masks of a large plan are nearly empty: only what they hit is looked at.
    found = list(compress(range(len(mask)), mask))
    hits = [index for index in found if trains[index]]
    # Moving statistics never train, and no filter need leave them out; a frozen layer contradicts the plan.
    barred: dict[str, str] = {}
    for index in found if len(hits) < len(found) else ():
        by = None if trains[index] else frozen_by(tree.owner_nodes[index], tree)
        if by is not None:
            barred[tree.infos[index].name] = by
    if barred:
        raise SelectionError(
            f"group {name!r} names frozen variables: {first_few(list(barred))}, by `trainable = False` on "
            f"{first_few(list(dict.fromkeys(barred.values())))}. Set it to True and freeze in the plan "
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
    tree: ModelTree,
    trains: Sequence[bool],
) -> None:
    left = [i for i, owner in enumerate(owners) if trains[i] and owner is None]
    if not left:
        return
    names = [tree.infos[index].name for index in left]
    if rest == "error":
        raise SelectionError(
            f"{len(left)} of {sum(trains)} trainable variables are in no group: {first_few(names)}. Add a "
            'group for them, or pass `rest="freeze"` or `rest="train"`'
        )
    if "rest" in settings:
        raise ValueError(
            f"`groups` already has a group called 'rest', and `rest={rest!r}` needs that name for "
            f"{first_few(names)}"
        )
    chosen = {id(tree.infos[index].variable) for index in left}
    settings["rest"] = Group(lambda info: id(info.variable) in chosen, frozen=rest == "freeze")
    for index in left:
        owners[index] = "rest"


def _overlap_message(overlaps: Mapping[tuple[str, str], Sequence[str]]) -> str:
    parts = [f"{one!r} and {other!r} share {first_few(names)}" for (one, other), names in overlaps.items()]
    return (
        f"`groups` overlap: {'; '.join(parts[:5])}. Each variable belongs to one group: narrow one of them, "
        "for instance with `&` and `~`"
    )
