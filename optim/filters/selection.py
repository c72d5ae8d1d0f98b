"""`select`: the trainable variables that filters match, or an error that says why none."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from ..common.messages import first_few
from ..naming.model_tree import LayerNode, ModelTree
from ..naming.stable_names import tree_of
from .base import Filter, FilterLike, as_filter, nothing_matched
from .patterns import SelectionError


def select(model: keras.layers.Layer, *filters: FilterLike) -> list[keras.Variable]:
    """The variables of `model.trainable_variables`, in that order, that any of `filters` matches.

    Where Keras shows other layer names than the stable ones (`named_variables` says when), names in
    filters may be of either sort; a name that would mean different layers is an error.

    Args:
        model: a built model or layer.
        *filters: at least one. A substring of the stable name (`"conv"`); a glob, if it has any of
            `*?[` (`"block5*"`); a compiled regex, searched; a layer class; a layer; a callable
            from `VariableInfo` to bool, which is asked about frozen variables too; or what `name`,
            `layer_type`, `kind`, `layers`, `from_layer` and `last_layers` return, combined with
            `|`, `&` and `~`.

    Returns:
        Trainable variables, each once.

    Raises:
        SelectionError: no filters; one of them, or a side of `|` or `&`, matches nothing; one
            matches only frozen variables; a name is ambiguous; layers overlap.
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
    trains = tree.trainable_mask()
    chosen: set[int] = set()
    for spec in specs:
        mask = spec.mask(tree)
        if not any(mask):
            raise nothing_matched(spec, tree)
        hits = [hit and trained for hit, trained in zip(mask, trains)]
        if not any(hits):
            raise SelectionError(_only_frozen(spec, tree, mask))
        chosen |= {id(info.variable) for info, hit in zip(tree.infos, hits) if hit}
    return [variable for variable in model.trainable_variables if id(variable) in chosen]


def _only_frozen(spec: Filter, tree: ModelTree, mask: Sequence[bool]) -> str:
    found = [(info, owner) for info, owner, hit in zip(tree.infos, tree.owner_nodes, mask) if hit]
    names = first_few([info.name for info, _ in found])
    frozen = dict.fromkeys(by for _, owner in found if (by := frozen_by(owner, tree)) is not None)
    if not frozen:
        why = "they never train by design, like moving statistics"
    else:
        why = (
            f"`trainable = False` on {first_few(list(frozen))} freezes them; set it to True "
            "(`layer.trainable = True`) and select again"
        )
    return f"{spec!r} matches only frozen variables of model {tree.model.name!r}, {names}: {why}"


def frozen_by(owner: LayerNode, tree: ModelTree) -> str | None:
    """The outermost layer around a variable that is not trainable, as text; None if all are."""
    if not tree.model.trainable:
        return "the model itself"
    paths = {id(node.layer): node.path for node in tree.nodes}
    for layer in (*owner.ancestors, owner.layer):
        if not layer.trainable:
            return f"{paths[id(layer)]!r}"
    return None
