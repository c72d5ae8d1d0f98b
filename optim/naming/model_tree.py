"""One walk over a model that gives every variable its stable name and knows every layer's place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from ..private import keras_private


@dataclass(frozen=True)
class VariableInfo:
    """What a filter may know of a variable.

    Attributes:
        name: stable name, unique in the model, e.g. `"blocks/0/conv/kernel"`.
        variable: the `keras.Variable`.
        layer: the layer that owns it.
        kind: the last component of the name: `"kernel"`, `"bias"`, `"gamma"`, ...

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> dense.build((None, 3))
        >>> [(info.name, info.kind) for info in variable_infos(dense)]
        [('kernel', 'kernel'), ('bias', 'bias')]
    """

    name: str
    variable: keras.Variable
    layer: keras.layers.Layer
    kind: str


@dataclass(frozen=True)
class LayerNode:
    """A layer and where it was found.

    Attributes:
        layer: the layer.
        path: its stable path, e.g. `"vgg16/block5_conv2"`; the model itself has `""`.
        shown: the same path by the layer names that Keras shows in this process.
        position: sorts layers into the model's order; a layer's own position starts those of the
            layers inside it.
        around: the layers it lies in, outermost first, without the model.
    """

    layer: keras.layers.Layer
    path: str
    shown: str
    position: tuple[int, ...]
    around: tuple[keras.layers.Layer, ...]


@dataclass(frozen=True)
class ModelTree:
    """A model's variables in `model.weights` order and its layers in the model's order."""

    model: keras.layers.Layer
    infos: tuple[VariableInfo, ...]
    shown: tuple[str, ...]
    owners: tuple[LayerNode, ...]
    nodes: tuple[LayerNode, ...]

    @property
    def names(self) -> list[str]:
        return [info.name for info in self.infos]

    @property
    def renumbered(self) -> bool:
        """Whether Keras shows other names than the stable ones somewhere."""
        return any(node.path != node.shown for node in self.nodes)

    def beneath(self, layers: Iterable[keras.layers.Layer]) -> list[bool]:
        """For each variable, whether one of `layers` holds it (shared ones: every holder)."""
        held = {id(variable) for layer in layers for variable in layer.weights}
        return [id(info.variable) in held for info in self.infos]

    def trainable(self) -> list[bool]:
        """For each variable, whether it is in `model.trainable_variables`."""
        trained = {id(variable) for variable in self.model.trainable_variables}
        return [id(info.variable) in trained for info in self.infos]


def model_tree(model: keras.layers.Layer) -> ModelTree:
    """Walks `model` (a built layer or model)."""
    walk = _Walk(model)
    found = [walk.found[id(variable)] for variable in model.weights]
    nodes = sorted(walk.nodes, key=lambda node: node.position)
    return ModelTree(
        model=model,
        infos=tuple(info for info, _, _ in found),
        shown=tuple(shown for _, shown, _ in found),
        owners=tuple(owner for _, _, owner in found),
        nodes=tuple(node for node in nodes if node.path),
    )


def stable_layer_names(layers: Sequence[keras.layers.Layer]) -> list[str]:
    """Names of sibling layers with Keras' automatic numbers counted anew, in the given order.

    Names of the user's own stay as they are and are never handed out to another layer.
    """
    automatic = [keras_private.has_automatic_name(layer) for layer in layers]
    taken = {layer.name for layer, auto in zip(layers, automatic) if not auto}
    given: set[str] = set()
    counters: Counter[str] = Counter()
    names = []
    for layer, auto in zip(layers, automatic):
        name = layer.name
        if auto:
            first = keras_private.automatic_name(type(layer))
            name = _numbered(first, counters[first])
            while name in taken or name in given:
                counters[first] += 1
                name = _numbered(first, counters[first])
            counters[first] += 1
        names.append(_unique(name, given))
    return names


class _Walk:
    """Visits each layer once, by the first path that leads to it."""

    def __init__(self, model: keras.layers.Layer) -> None:
        self.nodes: list[LayerNode] = []
        self.found: dict[int, tuple[VariableInfo, str, LayerNode]] = {}
        self._wanted = {id(variable) for variable in model.weights}
        self._claimed: set[int] = set()
        self._seen: set[int] = {id(model)}
        self._names: set[str] = set()
        self._visit(LayerNode(model, "", "", (), ()))

    def _visit(self, node: LayerNode) -> None:
        self.nodes.append(node)
        layer = node.layer
        components: set[str] = set()
        own: list[tuple[keras.Variable, str]] = []
        if keras_private.is_graph_model(layer):
            self._visit_by_name(node, list(layer.layers), 0, components)
        for order, attribute, value in _attributes(layer):
            for index, (component, leaf) in enumerate(_leaves(attribute, value, {id(value)})):
                if isinstance(leaf, keras.layers.Layer):
                    if id(leaf) not in self._seen:
                        component = _unique(component, components)
                        self._enter(node, leaf, component, component, (1, order, index))
                elif self._claim(leaf):
                    own.append((leaf, component))
        # What no attribute leads to: layers overwritten or kept in a container of an unknown kind.
        lost = [sub for sub in keras_private.tracked_layers(layer) if id(sub) not in self._seen]
        self._visit_by_name(node, [sub for sub in lost if sub.weights], 2, components)
        own += [(variable, "") for variable in layer.weights if self._claim(variable)]
        self._name_own(node, own)

    def _visit_by_name(
        self,
        node: LayerNode,
        layers: Sequence[keras.layers.Layer],
        group: int,
        components: set[str],
    ) -> None:
        for index, (layer, name) in enumerate(zip(layers, stable_layer_names(layers))):
            if id(layer) not in self._seen:
                name = _unique(name, components)
                self._enter(node, layer, name, layer.name, (group, index))

    def _enter(
        self,
        node: LayerNode,
        layer: keras.layers.Layer,
        component: str,
        shown: str,
        position: tuple[int, ...],
    ) -> None:
        self._seen.add(id(layer))
        around = node.around + (node.layer,) if node.path else ()
        self._visit(
            LayerNode(
                layer,
                _join(node.path, component),
                _join(node.shown, shown),
                node.position + position,
                around,
            )
        )

    def _claim(self, variable: keras.Variable) -> bool:
        free = id(variable) in self._wanted and id(variable) not in self._claimed
        self._claimed.add(id(variable))
        return free

    def _name_own(self, node: LayerNode, own: list[tuple[keras.Variable, str]]) -> None:
        counts = Counter(variable.name for variable, _ in own)
        for variable, attribute in own:
            name = variable.name
            if keras_private.has_automatic_variable_name(variable):
                name = attribute or "variable"
            elif counts[name] > 1:
                name = attribute or name
            path = _unique(_join(node.path, name), self._names)
            kind = path.rsplit("/", 1)[-1]
            shown = _join(node.shown, path[len(node.path) + 1 :] if node.path else path)
            info = VariableInfo(path, variable, node.layer, kind)
            self.found[id(variable)] = (info, shown, node)


def _attributes(layer: keras.layers.Layer) -> list[tuple[int, str, Any]]:
    """(order of assignment, name, value) of attributes, public ones first."""
    found = [
        (order, attribute, value)
        for order, (attribute, value) in enumerate(vars(layer).items())
        if isinstance(value, _HOLDERS) and not keras_private.is_book_keeping(attribute)
    ]
    return [
        (order, attribute.lstrip("_") or attribute, value)
        for order, attribute, value in sorted(found, key=lambda item: item[1].startswith("_"))
    ]


_LEAVES = (keras.layers.Layer, keras.Variable)
_HOLDERS = (*_LEAVES, list, tuple, dict, set, frozenset)


def _leaves(component: str, value: Any, inside: set[int]) -> Iterator[tuple[str, Any]]:
    """Layers and variables in `value`, with the path to each; `inside` guards against cycles."""
    if isinstance(value, _LEAVES):
        yield component, value
        return
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (set, frozenset)):
        # A set has no order of its own that lasts from one process to the next.
        members = (member for member in value if isinstance(member, _LEAVES))
        items = enumerate(sorted(members, key=lambda member: _natural(member.name)))
    else:
        items = enumerate(value)
    for key, item in items:
        if isinstance(item, _HOLDERS) and id(item) not in inside:
            yield from _leaves(f"{component}/{key}", item, inside | {id(item)})


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _numbered(first: str, number: int) -> str:
    return f"{first}_{number}" if number else first


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`, `name_2`, ... if taken; adds it to `taken`."""
    number = 0
    while _numbered(name, number) in taken:
        number += 1
    taken.add(_numbered(name, number))
    return _numbered(name, number)


def _join(path: str, component: str) -> str:
    return f"{path}/{component}" if path else component
