"""Filters by layer: given layers, the last ones, all from a layer on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from ..common.arguments import whole_number
from ..common.messages import first_few, short_repr
from ..naming.model_tree import LayerNode, ModelTree
from .base import Filter, converts
from .patterns import SelectionError, ambiguous, layer_names, near_misses


def layers(*names_or_layers: str | keras.layers.Layer) -> Filter:
    """All variables of these layers and of the layers inside them.

    Args:
        *names_or_layers: layers, or their paths (`"vgg16/block5_conv2"`) or the ends of them
            (`"block5_conv2"`) where only one layer has that end. Layers without variables may be among them,
            as in `layers(*model.layers[-20:])`, unless they are given by name.

    Raises:
        TypeError: none given, or of another type. Unknown names, the name of a layer without variables, a
            layer that is given twice or lies inside another raise `SelectionError` when selecting.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc1"),
        ...                           keras.layers.Dense(2, name="fc2")], name="net")
        >>> [v.path for v in select(model, layers("fc2"))]
        ['net/fc2/kernel', 'net/fc2/bias']
    """
    if not names_or_layers:
        raise TypeError("`layers()` needs at least one layer or layer name")
    for reference in names_or_layers:
        _check_reference(reference)
    return _Layers(names_or_layers)


def from_layer(name_or_layer: str | keras.layers.Layer) -> Filter:
    """All variables of this layer and of those after it in the model's order.

    The order is that of `model.layers`, with nested models opened in place; in subclassed models
    it is the order in which attributes were assigned.

    Args:
        name_or_layer: a layer, its path, or the end of its path.

    Raises:
        TypeError: another type. An unknown name raises `SelectionError` when selecting.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc1"),
        ...                           keras.layers.ReLU(name="relu"),
        ...                           keras.layers.Dense(2, name="fc2")], name="net")
        >>> [v.path for v in select(model, from_layer("relu"))]
        ['net/fc2/kernel', 'net/fc2/bias']
    """
    _check_reference(name_or_layer)
    return _FromLayer(name_or_layer)


def last_layers(n: int) -> Filter:
    """Variables of the last `n` layers that have trainable ones.

    Nested models are opened and their layers counted; any other layer counts as one, together with
    the layers inside it (a `Bidirectional`, an attention layer, a block that is a
    `keras.layers.Layer`). A residual unit that is written out layer by layer may so be cut in two:
    `select(model, *depths(model)[-n:])` counts units.

    Args:
        n: how many, at least 1.

    Raises:
        TypeError: `n` is no whole number.
        SelectionError: `n` is below 1; or, when selecting, above the number of such layers.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc1"),
        ...                           keras.layers.Dense(2, name="fc2"), keras.layers.Softmax()],
        ...                          name="net")
        >>> [v.path for v in select(model, last_layers(1))]
        ['net/fc2/kernel', 'net/fc2/bias']
    """
    try:
        return _LastLayers(whole_number("n", n, at_least=1))
    except ValueError as error:
        raise SelectionError(str(error)) from None


@dataclass(frozen=True, repr=False)
class _Layers(Filter):
    references: tuple[str | keras.layers.Layer, ...]

    def mask(self, tree: ModelTree) -> list[bool]:
        nodes = [_resolve(reference, tree) for reference in self.references]
        for node, reference in zip(nodes, self.references):
            if isinstance(reference, str) and not any(tree.inside([node.layer])):
                raise SelectionError(
                    f"{self!r}: layer {node.path!r} ({type(node.layer).__name__}) has no variables"
                )
        # The position of a layer starts with that of the layer around it, so overlaps are neighbours here.
        ordered = sorted(nodes, key=lambda node: node.position)
        for first, second in zip(ordered, ordered[1:]):
            if first is second:
                raise SelectionError(f"{self!r}: layer {first.path!r} is given twice; give it once")
            if second.position[: len(first.position)] == first.position:
                raise SelectionError(
                    f"{self!r}: layer {second.path!r} lies inside layer {first.path!r}, which "
                    "has its variables already; give one of the two"
                )
        return tree.inside(node.layer for node in nodes)

    @property
    def is_text(self) -> bool:
        return any(isinstance(reference, str) for reference in self.references)

    def hint(self, tree: ModelTree) -> str:
        nodes = [_resolve(reference, tree) for reference in self.references]
        found = [f"layer {node.path!r} ({type(node.layer).__name__})" for node in nodes]
        return f" No variables: {first_few(found)}."

    def __repr__(self) -> str:
        return f"layers({', '.join(map(_reference_text, self.references))})"


@dataclass(frozen=True, repr=False)
class _FromLayer(Filter):
    reference: str | keras.layers.Layer

    def mask(self, tree: ModelTree) -> list[bool]:
        start = _resolve(self.reference, tree).position
        return [owner.position >= start for owner in tree.owner_nodes]

    def hint(self, tree: ModelTree) -> str:
        return " No layer from there on has variables."

    def __repr__(self) -> str:
        return f"from_layer({_reference_text(self.reference)})"


@dataclass(frozen=True, repr=False)
class _LastLayers(Filter):
    n: int

    def mask(self, tree: ModelTree) -> list[bool]:
        layers = [outermost_layer(owner) for owner in tree.owner_nodes]
        positions = {
            id(layer): owner.position
            for layer, owner, trains in zip(layers, tree.owner_nodes, tree.trainable_mask())
            if trains
        }
        if self.n > len(positions):
            raise SelectionError(
                f"{self!r}: model {tree.model.name!r} has {len(positions)} layers with trainable "
                f"variables; ask for {len(positions)} or fewer"
            )
        last = sorted(positions, key=lambda layer: positions[layer])[-self.n :]
        return [id(layer) in last for layer in layers]

    def __repr__(self) -> str:
        return f"last_layers({self.n})"


def outermost_layer(owner: LayerNode) -> keras.layers.Layer:
    """The outermost layer around `owner`, or itself, that is no model: its user sees it as one layer."""
    chain = [*owner.ancestors, owner.layer]
    return next((layer for layer in chain if not isinstance(layer, keras.Model)), owner.layer)


def _check_reference(reference: object) -> None:
    if not isinstance(reference, (str, keras.layers.Layer)):
        raise TypeError(
            f"`name_or_layer` must be a layer or its name, got {short_repr(reference)} of type "
            f"{type(reference).__name__}"
        )


def _resolve(reference: str | keras.layers.Layer, tree: ModelTree) -> LayerNode:
    """The one layer that a name or a layer object stands for."""
    model = tree.model.name
    if reference is tree.model:
        raise SelectionError(
            f"layer {model!r} is the whole model; use `model.trainable_variables` for all of it"
        )
    if not isinstance(reference, str):
        for node in tree.nodes:
            if node.layer is reference:
                return node
        raise SelectionError(
            f"layer {_reference_text(reference)} is not in model {model!r}; its layers: "
            f"{first_few([node.path for node in tree.nodes])}"
        )
    by_stable_name = _named(reference, tree.nodes, [node.path for node in tree.nodes])
    by_keras_name = _named(reference, tree.nodes, [node.keras_path for node in tree.nodes])
    if by_stable_name and by_keras_name and by_stable_name != by_keras_name:
        paths = [_both_names(nodes) for nodes in (by_stable_name, by_keras_name)]
        raise ambiguous(f"layer name {reference!r}", tree, *paths)
    found = by_stable_name or by_keras_name
    if not found:
        raise SelectionError(
            f"model {model!r} has no layer {reference!r}."
            f"{_attribute_hint(reference, tree)}{near_misses(reference, layer_names(tree))} "
            f"Its layers: {first_few([node.path for node in tree.nodes])}"
        )
    if len(found) > 1:
        raise SelectionError(
            f"layer name {reference!r} stands for {len(found)} layers of model {model!r}: "
            f"{first_few([node.path for node in found])}; write more of the path, or use "
            f"`name({'*/' + reference + '/*'!r})` for all of them"
        )
    return found[0]


def _named(reference: str, nodes: Sequence[LayerNode], paths: Sequence[str]) -> list[LayerNode]:
    """Nodes whose path is `reference`, or else ends in it."""
    exact = [node for node, path in zip(nodes, paths) if path == reference]
    ending = [node for node, path in zip(nodes, paths) if path.endswith(f"/{reference}")]
    return exact or (ending if reference else [])


def _both_names(nodes: Sequence[LayerNode]) -> str:
    return first_few([f"{node.path!r} (Keras: {node.keras_path!r})" for node in nodes])


def _attribute_hint(reference: str, tree: ModelTree) -> str:
    """Says that the layer of a subclassed model is known by its attribute, not by its `name=`."""
    paths = [node.path for node in tree.nodes if node.layer.name == reference]
    return f" The layer with `name={reference!r}` is {first_few(paths)} here." if paths else ""


def _reference_text(reference: object) -> str:
    if isinstance(reference, str):
        return repr(reference)
    return f"<{type(reference).__name__} {getattr(reference, 'name', '')}>"


@converts
def _from_layer_object(spec: object) -> Filter | None:
    return layers(spec) if isinstance(spec, keras.layers.Layer) else None
