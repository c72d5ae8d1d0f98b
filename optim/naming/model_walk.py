"""The walk over a model that gives every variable its stable name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import keras

from ..private import keras_private
from .layer_names import stable_layer_names, unique_name
from .model_tree import LayerNode, ModelTree, VariableInfo


def walk_model(model: keras.layers.Layer) -> ModelTree:
    """The tree of `model`, a built layer or model."""
    walk = _Walk(model)
    found = [walk.found[id(variable)] for variable in model.weights]
    nodes = sorted(walk.nodes, key=lambda node: node.position)
    return ModelTree(
        model=model,
        infos=tuple(info for info, _, _ in found),
        keras_names=tuple(keras_name for _, keras_name, _ in found),
        owner_nodes=tuple(owner for _, _, owner in found),
        nodes=tuple(node for node in nodes if node.path),
    )


class _Walk:
    """Visits each layer once, by the first path that leads to it.

    visit(layer):
        a Sequential or Functional model: visit its layers, under their names
        for each attribute, public ones first, and each item of the containers among them:
            a layer: visit it, under the attribute's name
            a variable: it belongs to this layer
        visit layers that Keras tracks and no attribute leads to, under their names
        name the variables that belong to this layer
    """

    def __init__(self, model: keras.layers.Layer) -> None:
        self.nodes: list[LayerNode] = []  # the layers visited, the model itself first
        # Variable's `id` -> its info, its name by Keras' layer names, and its owner.
        self.found: dict[int, tuple[VariableInfo, str, LayerNode]] = {}
        self._unclaimed = {id(variable) for variable in model.weights}
        self._visited: set[int] = {id(model)}
        self._used_names: set[str] = set()
        self._visit(LayerNode(model, "", "", (), ()))

    def _visit(self, node: LayerNode) -> None:
        self.nodes.append(node)
        layer = node.layer
        used: set[str] = set()  # names of the layers directly inside
        own: list[tuple[keras.Variable, str]] = []
        if keras_private.is_graph_model(layer):
            self._visit_by_name(node, list(layer.layers), 0, used)
        for order, attribute, value in _attributes(layer):
            for index, (component, leaf) in enumerate(_leaves(attribute, value, {id(value)})):
                if isinstance(leaf, keras.layers.Layer):
                    if id(leaf) not in self._visited:
                        component = unique_name(component, used)
                        self._enter(node, leaf, component, component, (1, order, index))
                elif self._claim(leaf):
                    own.append((leaf, component))
        # No attribute leads to a layer that was overwritten, or that lies in a container of an unknown kind.
        rest = [sub for sub in keras_private.tracked_layers(layer) if id(sub) not in self._visited]
        self._visit_by_name(node, [sub for sub in rest if sub.weights], 2, used)
        own += [(variable, "") for variable in layer.weights if self._claim(variable)]
        self._name_own(node, own)

    def _visit_by_name(
        self, node: LayerNode, layers: Sequence[keras.layers.Layer], group: int, used: set[str]
    ) -> None:
        for index, (layer, name) in enumerate(zip(layers, stable_layer_names(layers))):
            if id(layer) not in self._visited:
                self._enter(node, layer, unique_name(name, used), layer.name, (group, index))

    def _enter(
        self,
        node: LayerNode,
        layer: keras.layers.Layer,
        name: str,
        keras_name: str,
        position: tuple[int, ...],
    ) -> None:
        self._visited.add(id(layer))
        path, keras_path = _join(node.path, name), _join(node.keras_path, keras_name)
        ancestors = (*node.ancestors, node.layer) if node.path else ()
        self._visit(LayerNode(layer, path, keras_path, node.position + position, ancestors))

    def _claim(self, variable: keras.Variable) -> bool:
        """Whether the variable is a weight of the model that no layer has claimed before."""
        free = id(variable) in self._unclaimed
        self._unclaimed.discard(id(variable))
        return free

    def _name_own(self, node: LayerNode, own: list[tuple[keras.Variable, str]]) -> None:
        """Names a layer's own variables, given with the attributes that lead to them."""
        counts = Counter(variable.name for variable, _ in own)
        for variable, attribute in own:
            name = variable.name
            if keras_private.has_automatic_variable_name(variable):
                name = attribute or "variable"
            elif counts[name] > 1:
                name = attribute or name
            path = unique_name(_join(node.path, name), self._used_names)
            keras_name = _join(node.keras_path, path[len(node.path) + 1 :] if node.path else path)
            info = VariableInfo(path, variable, node.layer, kind=path.rsplit("/", 1)[-1])
            self.found[id(variable)] = (info, keras_name, node)


def _attributes(layer: keras.layers.Layer) -> list[tuple[int, str, object]]:
    """(order of assignment, name, value) of attributes, public ones first."""
    attributes = [
        (order, attribute, value)
        for order, (attribute, value) in enumerate(vars(layer).items())
        if type(value) not in _PLAIN
        and isinstance(value, _HOLDERS)
        and not keras_private.is_book_keeping(attribute)
    ]
    attributes.sort(key=lambda item: item[1].startswith("_"))
    return [(order, attribute.lstrip("_") or attribute, value) for order, attribute, value in attributes]


_LEAVES = (keras.layers.Layer, keras.Variable)
_HOLDERS = (*_LEAVES, list, tuple, dict, set, frozenset)
_PLAIN = frozenset({bool, int, float, str, type(None)})  # most attributes are of these


def _leaves(
    path: str, value: object, inside: set[int]
) -> Iterator[tuple[str, keras.layers.Layer | keras.Variable]]:
    """Layers and variables in `value`, with the path to each; `inside` guards against cycles."""
    if isinstance(value, _LEAVES):
        yield path, value
        return
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (set, frozenset)):
        # A set has no order of its own that lasts from one process to the next.
        named = [(member.name, member) for member in value if isinstance(member, _LEAVES)]
        items = enumerate(member for _, member in sorted(named, key=lambda pair: _natural_order(pair[0])))
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, item in items:
        if isinstance(item, _HOLDERS) and id(item) not in inside:
            yield from _leaves(f"{path}/{key}", item, inside | {id(item)})


def _natural_order(name: str) -> list[tuple[int, str]]:
    """A sort key that puts `dense_2` before `dense_10`."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _join(path: str, component: str) -> str:
    return f"{path}/{component}" if path else component
