"""A model's variables under their stable names, and its layers in the model's order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import keras


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
        >>> [v.name for v in select(dense, lambda info: len(info.variable.shape) == 2)]  # a filter
        ['kernel']
    """

    name: str
    variable: keras.Variable
    layer: keras.layers.Layer
    kind: str


@dataclass(frozen=True)
class LayerNode:
    """A layer and where it was found."""

    layer: keras.layers.Layer
    path: str  # stable, e.g. `"vgg16/block5_conv2"`; the model itself has `""`
    keras_path: str  # the same by the names that the layers have in this process
    position: tuple[int, ...]  # a sort key for the model's order, which starts with that of the layer around
    ancestors: tuple[keras.layers.Layer, ...]  # the layers it lies in, outermost first, without the model


@dataclass(frozen=True)
class ModelTree:
    """A model's variables and layers. `stable_names.tree_of` makes it."""

    model: keras.layers.Layer  # or a model
    infos: tuple[VariableInfo, ...]  # one for each variable, in `model.weights` order, as in the next two
    keras_names: tuple[str, ...]  # of the variables, by the layer names that Keras shows
    owner_nodes: tuple[LayerNode, ...]  # the layer that owns each variable
    nodes: tuple[LayerNode, ...]  # all layers inside the model, in the model's order

    @property
    def names(self) -> list[str]:
        return [info.name for info in self.infos]

    @property
    def keras_numbers_differ(self) -> bool:
        """Whether Keras shows other names than the stable ones somewhere."""
        return any(node.path != node.keras_path for node in self.nodes)

    def inside(self, layers: Iterable[keras.layers.Layer]) -> list[bool]:
        """For each variable, whether one of `layers` holds it (shared ones: every holder)."""
        held = {id(variable) for layer in layers for variable in layer.weights}
        return [id(info.variable) in held for info in self.infos]

    def trainable_mask(self) -> list[bool]:
        """For each variable, whether it is in `model.trainable_variables`."""
        trained = {id(variable) for variable in self.model.trainable_variables}
        return [id(info.variable) in trained for info in self.infos]
