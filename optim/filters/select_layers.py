"""The layers that a filter means."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras

from ..naming.model_tree import LayerNode, ModelTree, VariableInfo
from ..naming.stable_names import tree_of
from .base import FilterLike, as_filter, nonempty_mask
from .by_variable import Predicate


def select_layers(model: keras.layers.Layer, spec: FilterLike) -> list[LayerNode]:
    """The layers inside a model that a filter means, in the model's order, trainable or not.

    A layer with variables of its own is meant if one of these matches. One without is judged as a variable
    would be that has the layer's name: by text, classes and layers. A callable is not asked about it.

    Raises:
        SelectionError: nothing matches.
        TypeError: as `as_filter`.
    """
    chosen, tree = as_filter(spec), tree_of(model)
    owners = {id(node.layer) for node in tree.owner_nodes}
    bare = [node for node in tree.nodes if id(node.layer) not in owners]
    if isinstance(chosen, Predicate):
        bare = []
    names = [node.path for node in bare]
    infos = [VariableInfo(name, None, n.layer, name.rsplit("/", 1)[-1]) for name, n in zip(names, bare)]
    joined = _WithLayers(
        tree.model,
        (*tree.infos, *infos),
        (*tree.keras_names, *(node.keras_path for node in bare)),
        (*tree.owner_nodes, *bare),
        tree.nodes,
        tuple(bare),
    )
    mask = nonempty_mask(chosen, joined)
    found = {id(node.layer) for node, hit in zip(joined.owner_nodes, mask) if hit}
    return [node for node in tree.nodes if id(node.layer) in found]


@dataclasses.dataclass(frozen=True)
class _WithLayers(ModelTree):
    """A tree that has an entry, after those of the variables, for each layer without any of its own."""

    bare: tuple[LayerNode, ...]

    def inside(self, layers: Iterable[keras.layers.Layer]) -> list[bool]:
        layers = list(layers)
        ids = set(map(id, layers))
        bare = [not ids.isdisjoint(map(id, (node.layer, *node.ancestors))) for node in self.bare]
        return [*super().inside(layers)[: len(self.infos) - len(bare)], *bare]
