"""The frozen part of a model: where to cut, and which of its layers are random."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras

from ...optim import Plan
from ...optim.filters.selection import VariablesOrFilters, variables_or_filters
from ...optim.naming.stable_names import tree_of
from ..graph.keras_graph import Call, calls, stock_family, traced_operations
from ..graph.split import SplitModel, split_graph, without_nested_models

# TensorFlow's operations that draw random numbers.
_RANDOM = re.compile("Random|Multinomial|TruncatedNormal|Distorted")


def trained_variables(model: keras.Model, trained: Plan | VariablesOrFilters) -> list[keras.Variable]:
    """The variables that a plan, filters or a list choose, in the model's order."""
    tree_of(model)  # raises if it is no model
    if isinstance(trained, Plan):
        if not trained.trained:
            raise ValueError("`trained` is a plan whose groups are all frozen: unfreeze one of them.")
        trained = trained.trained
    return variables_or_filters("trained", model, trained)


def split_frozen(model: keras.Model, trained: Sequence[keras.Variable]) -> SplitModel:
    """Cuts a model before the first calls that train, as late as possible.

    Random layers without weights, such as dropout, belong to the rest, unless frozen weights come after them.
    Frozen layers with weights belong to the front, even an LSTM with dropout. Raises ValueError if no layer
    with weights is frozen before the first that trains, and for a subclassed model.
    """
    ids = {id(variable) for variable in trained}
    model = without_nested_models(model)
    graph = calls(model)

    def trains(call: Call) -> bool:
        return any(id(variable) in ids for variable in _weights(call))

    # Tensors that depend on weights that train.
    trained_tensors: set[int] = set()
    for call in graph:
        if trains(call) or any(id(tensor) in trained_tensors for tensor in call.inputs):
            trained_tensors.update(map(id, call.outputs))
    # Tensors from which frozen layers compute, before any that train.
    read_by_frozen: set[int] = set()
    for call in reversed(graph):
        if id(call.outputs[0]) in trained_tensors:
            continue
        if _weights(call) or any(id(tensor) in read_by_frozen for tensor in call.outputs):
            read_by_frozen.update(map(id, call.inputs))

    def in_rest(call: Call) -> bool:
        frozen_after = any(id(tensor) in read_by_frozen for tensor in call.outputs)
        return trains(call) or (is_random(call) and not _weights(call) and not frozen_after)

    if not read_by_frozen:
        first = next(call.operation.name for call in graph if trains(call))
        raise ValueError(
            f"`trained`: no layer with weights is frozen before {first!r}, the first that trains in model "
            f"{model.name!r}, so there is nothing to compute once. Train the model itself."
        )
    return split_graph(model, in_rest)


def _weights(call: Call) -> Sequence[keras.Variable]:
    return getattr(call.operation, "weights", ())  # operations of `keras.ops` have none


def is_random(call: Call) -> bool:
    """Whether a call draws random numbers in training mode."""
    return bool(_random_layers(call))


def augmentation_layers(model: keras.Model) -> list[str]:
    """The names of the layers that augment data at random.

    These are Keras' augmentation layers (`RandomFlip`), and custom layers without weights that have nothing
    but normalisation before them, or draw random numbers in inference mode, too. All other random layers
    (dropout, noise, dropout inside of recurrent and attention layers, custom layers that drop features) are
    off in a cache, as in inference. Augmentation must not be dropped silently: the model would train on other
    examples.
    """
    computed: set[int] = set()  # ids of the tensors that depend on weights
    names = []
    for call in calls(model):
        after_weights = any(id(tensor) in computed for tensor in call.inputs)
        augments = any(_is_augmentation(layer, after_weights) for layer in _random_layers(call))
        if augments or _has_random_operations(call, training=False):
            names.append(call.operation.name)
        if after_weights or _weights(call) and not isinstance(call.operation, keras.layers.Normalization):
            computed.update(map(id, call.outputs))
    return names


def check_stateless(front: keras.Model) -> None:
    """Raises ValueError if features depend on earlier batches, that is, for a stateful RNN."""
    for node in tree_of(front).nodes:
        if isinstance(node.layer, keras.layers.RNN) and node.layer.stateful:
            raise ValueError(
                f"`model` has the layer {node.layer.name!r} with `stateful=True` before what trains, whose "
                "features depend on the batches before: a cache would hold those of one order for ever. Make "
                "the layer with `stateful=False`, or train without a cache."
            )


def _with_sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [layer, *(node.layer for node in tree_of(layer).nodes)]


def _random_layers(call: Call) -> list[keras.layers.Layer]:
    """The innermost layers of a call that draw random numbers in training mode.

    Keras' layers have seed generators, variables that are no weights. Custom layers may use TensorFlow's.
    """
    layer = call.operation
    if len(getattr(layer, "variables", ())) == len(_weights(call)):
        if not _has_random_operations(call, training=True):
            return []
        return [each for each in _with_sublayers(layer) if not stock_family(each)]
    weights = {id(weight) for weight in layer.weights}
    owners: dict[int, keras.layers.Layer] = {}  # by the `id` of a generator's state
    for each in _with_sublayers(layer):
        for variable in each.variables:
            known = owners.get(id(variable))
            if id(variable) not in weights and (known is None or len(each.variables) <= len(known.variables)):
                owners[id(variable)] = each
    return list(owners.values())


def _has_random_operations(call: Call, training: bool) -> bool:
    """Whether a custom layer without weights has random operations in its graph."""
    layer = call.operation
    if (
        not isinstance(layer, keras.layers.Layer)
        or layer.weights
        or all(map(stock_family, _with_sublayers(layer)))
    ):
        return False
    return any(_RANDOM.search(name) for name in traced_operations(call, training=training))


def _is_augmentation(layer: keras.layers.Layer, after_weights: bool) -> bool:
    family = stock_family(layer)
    return family == "preprocessing" or not (family or layer.weights or after_weights)
