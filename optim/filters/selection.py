"""`select`: the trainable variables that filters match, or an error that says why none."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from itertools import compress
from typing import Union

import keras

from ..common.messages import first_few
from ..naming.model_tree import LayerNode, ModelTree
from ..naming.stable_names import tree_of
from .base import Filter, FilterLike, as_filter, nonempty_mask, nothing_matched
from .patterns import SelectionError


def select(model: keras.layers.Layer, *filters: FilterLike) -> list[keras.Variable]:
    """The variables of `model.trainable_variables`, in that order, that any of `filters` matches.

    Where Keras shows other layer names than the stable ones (`named_variables` says when), names in
    filters may be of either sort; a name that would mean different layers is an error.

    Args:
        model: a built model or layer.
        *filters: at least one. Text at words of the stable name (`"conv"`, see `name`); a glob, if it has
            any of `*?[` (`"block5*"`); a compiled regex, searched; a layer class; a layer; a callable
            from `VariableInfo` to bool, which is asked about frozen variables too; or what `name`,
            `layer_type`, `kind`, `layers`, `from_layer` and `last_layers` return, combined with
            `|`, `&` and `~`.

    Returns:
        Trainable variables, each once.

    Raises:
        SelectionError: no filters; they match nothing, or only frozen variables; one of them is text that
            does, even beside others; a name is ambiguous; layers overlap.
        TypeError: something that cannot be a filter, or a callable that returns no bool.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, name="conv1"),
        ...     keras.layers.Flatten(), keras.layers.Dense(2, name="fc")],
        ...     name="net")
        >>> [v.path for v in select(model, "conv", keras.layers.Dense)]
        ['net/conv1/kernel', 'net/conv1/bias', 'net/fc/kernel', 'net/fc/bias']
        >>> [v.path for v in select(model, ~kind("bias") & "fc")]
        ['net/fc/kernel']
    """
    tree = tree_of(model)
    if not filters:
        raise SelectionError(
            "`filters` is empty: give at least one, such as 'conv' or keras.layers.Dense; for all "
            "variables use `model.trainable_variables`"
        )
    specs = [as_filter(spec) for spec in filters]
    if not tree.infos:
        raise SelectionError(f"model {model.name!r} has no variables to select from")
    trainable = tree.trainable_mask()
    chosen: set[int] = set()
    frozen: list[int] = []
    for spec, mask in zip(specs, union_masks(specs, tree)):
        hits, others = _split(mask, trainable)
        if spec.is_text and not hits:
            raise SelectionError(_only_frozen(spec, tree, others))
        chosen.update(id(tree.infos[index].variable) for index in hits)
        frozen += others
    if not chosen:
        raise SelectionError(_only_frozen(_union(specs), tree, frozen))
    return [variable for variable in model.trainable_variables if id(variable) in chosen]


# What an argument takes that says which variables train: variables or filters, one or several.
VariablesOrFilters = Union[keras.Variable, FilterLike, Sequence[Union[keras.Variable, FilterLike]]]


def variables_or_filters(
    argument: str, model: keras.layers.Layer, chosen: VariablesOrFilters
) -> list[keras.Variable]:
    """The trainable variables that an argument of this name chose, in the model's order, each once.

    Raises:
        ValueError: a variable that is not a trainable one of the model.
        SelectionError, TypeError, NotBuiltError: as `select`.
    """
    items: list[keras.Variable] = list(chosen) if isinstance(chosen, (list, tuple)) else [chosen]
    if not items or not all(isinstance(item, keras.Variable) for item in items):
        return select(model, *items)
    trainable = {id(variable) for variable in model.trainable_variables}
    for item in items:
        if id(item) not in trainable:
            raise ValueError(
                f"`{argument}` holds {item.path!r}, which is not a trainable variable of model "
                f"{model.name!r}: it belongs to another one, or its layer has `trainable=False`."
            )
    wanted = {id(item) for item in items}
    return [variable for variable in model.trainable_variables if id(variable) in wanted]


def matches(spec: Filter, tree: ModelTree, trainable: Sequence[bool]) -> tuple[list[int], list[int]]:
    """What a filter matches: the indices of trainable variables in `tree.infos`, and those of all others.

    `trainable` is the tree's `trainable_mask()`. A filter that matches nothing is a SelectionError.
    """
    return _split(nonempty_mask(spec, tree), trainable)


def union_masks(specs: Sequence[Filter], tree: ModelTree) -> list[list[bool]]:
    """The masks of filters that must match something between them; else SelectionError."""
    masks = [spec.mask(tree) for spec in specs]
    if not any(map(any, masks)):
        raise nothing_matched(_union(specs), tree)
    return masks


def _union(specs: Sequence[Filter]) -> Filter:
    return functools.reduce(operator.or_, specs)


def _split(mask: Sequence[bool], trainable: Sequence[bool]) -> tuple[list[int], list[int]]:
    """The indices of trainable variables in a mask, and those of all others."""
    found = list(compress(range(len(mask)), mask))
    return [i for i in found if trainable[i]], [i for i in found if not trainable[i]]


def frozen_by(owner: LayerNode, tree: ModelTree) -> str | None:
    """The outermost layer around a variable that is not trainable, as text; None if all are."""
    if not tree.model.trainable:
        return "the model itself"
    paths = {id(node.layer): node.path for node in tree.nodes}
    frozen = (layer for layer in (*owner.ancestors, owner.layer) if not layer.trainable)
    return next((f"{paths[id(layer)]!r}" for layer in frozen), None)


def _only_frozen(spec: Filter, tree: ModelTree, indices: Sequence[int]) -> str:
    names = first_few([tree.infos[index].name for index in indices])
    culprits = (frozen_by(tree.owner_nodes[index], tree) for index in indices)
    frozen = list(dict.fromkeys(culprit for culprit in culprits if culprit is not None))
    why = (
        f"`trainable = False` on {first_few(frozen)} freezes them; set it to True (`layer.trainable = True`) "
        "and select again"
        if frozen
        else "they never train by design, like moving statistics"
    )
    return f"{spec!r} matches only frozen variables of model {tree.model.name!r}, {names}: {why}"
