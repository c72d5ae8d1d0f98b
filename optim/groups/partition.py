"""Putting each trainable variable of a model in exactly one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from ..common.messages import first_few, short_repr
from ..filters.base import Filter, FilterLike, as_filter
from ..filters.patterns import SelectionError
from ..filters.selection import frozen_by, matches
from ..naming.model_tree import ModelTree
from ..naming.stable_names import tree_of
from .group import Group
from .plan import Plan, name_list

REST = ("error", "freeze", "train")


def partition(
    model: keras.layers.Layer, groups: Mapping[str, Group | FilterLike], rest: str = "error"
) -> Plan:
    """Puts each trainable variable of a model in exactly one group.

    Args:
        model: a built model or layer.
        groups: name -> `Group`, or a filter for a group with default settings.
        rest: what to do with variables in no group: "error" raises; "freeze" and "train" put them in a last
            group called `rest`, frozen or with default settings.

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
        raise ValueError(f"`rest` must be one of {name_list(REST)}, got {short_repr(rest)}")
    tree = tree_of(model)
    trainable = tree.trainable_mask()
    group_of: list[str | None] = [None] * len(tree.infos)
    overlaps: dict[tuple[str, str], list[str]] = {}
    for name, group in settings.items():
        for index in _group_indices(name, as_filter(group.where), tree, trainable):
            other = group_of[index]
            if other is not None:
                overlaps.setdefault((other, name), []).append(tree.infos[index].name)
            group_of[index] = name
    if overlaps:
        parts = [f"{one!r} and {two!r} share {first_few(names)}" for (one, two), names in overlaps.items()]
        raise SelectionError(
            f"`groups` overlap: {'; '.join(parts[:5])}. Each variable belongs to one group: narrow one of "
            "them, for instance with `&` and `~`"
        )
    _assign_rest(rest, settings, group_of, tree, trainable)
    # Loops and `fit` have their gradients in the order of `trainable_variables`.
    names = {id(info.variable): (info.name, group) for info, group in zip(tree.infos, group_of)}
    members: dict[str, dict[str, keras.Variable]] = {name: {} for name in settings}
    order = []
    for variable in model.trainable_variables:
        name, its_group = names[id(variable)]
        assert its_group is not None
        members[its_group][name] = variable
        order.append(name)
    norms: dict[str, list[str]] = {}
    for info in tree.infos:
        if isinstance(info.layer, keras.layers.BatchNormalization) and info.name in order:
            norms.setdefault(info.layer.name, []).append(info.name)
    return Plan(groups=settings, members=members, order=tuple(order), batch_norms=tuple(norms.items()))


def _checked_groups(groups: Mapping[str, Group | FilterLike]) -> dict[str, Group]:
    if not isinstance(groups, Mapping):
        raise TypeError(f"`groups` must be a dict of name -> Group or filter, got {short_repr(groups)}")
    if not groups:
        raise ValueError("`groups` is empty: give at least one, such as {'all': optim.Group('*')}")
    for name in groups:
        if not isinstance(name, str) or not name:
            raise ValueError(f"`groups` has the name {short_repr(name)}: names must be non-empty strings")
    return {name: g if isinstance(g, Group) else Group(g) for name, g in groups.items()}


def _group_indices(name: str, where: Filter, tree: ModelTree, trainable: Sequence[bool]) -> list[int]:
    """The indices of a group's variables in `tree.infos`."""
    try:
        hits, others = matches(where, tree, trainable)
    except SelectionError as error:
        raise SelectionError(f"group {name!r}: {error}") from error
    # A filter may match moving statistics, which never train; a frozen layer contradicts the plan.
    frozen: dict[str, str] = {}
    for index in others:
        culprit = frozen_by(tree.owner_nodes[index], tree)
        if culprit is not None:
            frozen[tree.infos[index].name] = culprit
    if frozen:
        raise SelectionError(
            f"group {name!r} names frozen variables: {first_few(list(frozen))}, by `trainable = False` on "
            f"{first_few(list(dict.fromkeys(frozen.values())))}. Set it to True and freeze in the plan "
            "(`Group(..., frozen=True)`), or leave the layer out of the group"
        )
    if not hits:
        raise SelectionError(
            f"group {name!r}: {where!r} matches only variables that never train, like moving statistics"
        )
    return hits


def _assign_rest(
    rest: str,
    settings: dict[str, Group],
    group_of: list[str | None],
    tree: ModelTree,
    trainable: Sequence[bool],
) -> None:
    """Puts the trainable variables that are in no group in one called `rest`, or raises."""
    left = [index for index, group in enumerate(group_of) if trainable[index] and group is None]
    if not left:
        return
    names = [tree.infos[index].name for index in left]
    if rest == "error":
        raise SelectionError(
            f"{len(left)} of {sum(trainable)} trainable variables are in no group: {first_few(names)}. Add a "
            'group for them, or pass `rest="freeze"` or `rest="train"`'
        )
    if "rest" in settings:
        raise ValueError(
            f"`groups` already has a group called 'rest', and `rest={rest!r}` needs that name for "
            f"{first_few(names)}"
        )
    variables = {id(tree.infos[index].variable) for index in left}
    settings["rest"] = Group(lambda info: id(info.variable) in variables, frozen=rest == "freeze")
    for index in left:
        group_of[index] = "rest"
