"""A model's depths: what learns at one rate, and is unfrozen together, from the bottom to the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from ..common.messages import first_few
from ..filters.base import Filter
from ..filters.blocks import blocks
from ..naming.model_tree import LayerNode, ModelTree
from ..naming.stable_names import tree_of

_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


def depths(model: keras.layers.Layer) -> list[Filter]:
    """A filter for each depth of a model, from the bottom to the top, as `layerwise_decay` counts them.

    Args:
        model: a built model.

    Raises:
        ValueError: nothing to train.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((4,)), keras.layers.Dense(3, name="fc1"),
        ...     keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(2, name="head")])
        >>> depths(model)
        [depth(fc1, norm), depth(head)]
        >>> [v.path.split("/", 1)[1] for v in select(model, *depths(model)[-1:])]  # the top
        ['head/kernel', 'head/bias']
    """
    return list(depths_of(tree_of(model)))


@dataclass(frozen=True, repr=False)
class Depth(Filter):
    """Trainable variables by their stable names."""

    shown: tuple[str, ...]  # the paths of their layers, for `repr`
    names: frozenset[str]

    def mask(self, tree: ModelTree) -> list[bool]:
        return [info.name in self.names for info in tree.infos]

    def __repr__(self) -> str:
        return f"depth({first_few(self.shown)})"


def merged(levels: Sequence[Depth]) -> Depth:
    """Depths as one."""
    shown = tuple(path for depth in levels for path in depth.shown)
    return Depth(shown, frozenset().union(*(depth.names for depth in levels)))


def depths_of(tree: ModelTree, among: Sequence[bool] | None = None) -> list[Depth]:
    """The depths of a tree; `among` says which variables count, None for all that train."""
    wanted = tree.trainable_mask() if among is None else among
    if not any(wanted):
        raise ValueError(
            f"`model` {tree.model.name!r} has no trainable variables to put in groups: set "
            "`trainable = True` on the layers to train"
        )
    runs = blocks(tree)
    in_a_run = {id(node.layer) for run in runs for node in run}
    names: dict[int, list[str]] = {}
    owners: dict[int, LayerNode] = {}  # models that own variables
    for info, owner, counts in zip(tree.infos, tree.owner_nodes, wanted):
        if counts:
            around = (layer for layer in (*owner.ancestors, owner.layer) if id(layer) in in_a_run)
            layer = next(around, owner.layer)
            if id(layer) not in in_a_run:
                owners[id(layer)] = owner
            names.setdefault(id(layer), []).append(info.name)
    for owner in owners.values():
        after = (
            index for index, run in enumerate(runs) if max(node.position for node in run) > owner.position
        )
        runs.insert(next(after, len(runs)), [owner])
    levels: list[list[LayerNode]] = []
    pending: list[LayerNode] = []
    for run in runs:
        level = sorted((node for node in run if id(node.layer) in names), key=lambda node: node.position)
        pending += level
        if not level or id(level[0].layer) in owners:
            continue  # the variables that a model owns itself go with its first layer
        if levels and all(isinstance(node.layer, _NORMALIZATIONS) for node in level):
            levels[-1] += pending
        else:
            levels.append(pending)
        pending = []
    if pending:
        levels.append(pending)
    return [
        Depth(
            # The model itself has no path.
            tuple(label for node in level for label in ([node.path] if node.path else names[id(node.layer)])),
            frozenset(name for node in level for name in names[id(node.layer)]),
        )
        for level in levels
    ]
