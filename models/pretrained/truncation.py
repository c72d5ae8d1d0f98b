"""Cutting the end of a model off."""

from __future__ import annotations

from typing import Any

import keras

from ...optim.common.messages import did_you_mean
from ...optim.naming.layer_names import stable_layer_names
from ..graph.keras_graph import Call, calls, functional


def truncate(model: keras.Model, layer: str | int | keras.layers.Layer) -> keras.Model:
    """Returns the model up to a layer, whose output becomes the model's: bottleneck features.

    The layers are the model's own, so their variables are shared: what one of both learns, the other knows.
    `classifier(truncate(model, "block4_pool"), classes)` grafts a head on any layer.

    Args:
        model: a Functional or Sequential model, branching or not.
        layer: the last layer to keep, or its name, Keras' or the stable one of `optim`; or how many to
            take off, as a negative number: -2 removes the last two of `model.layers`, as long as one layer is
            the end of what is left.

    Returns:
        A Functional model with the same inputs.

    Raises:
        ValueError: no such layer, or one that the model calls at several places; more layers to take off than
            there are; what is left has several ends; a subclassed model, whose graph only its code knows.
        TypeError: `layer` is none of these.

    Example:
        >>> from gradloop import models
        >>> features = models.truncate(models.backbone("VGG16", (64, 64, 3)), "block4_pool")
        >>> features.output_shape
        (None, 4, 4, 512)
    """
    graph = calls(model)
    if isinstance(layer, int) and not isinstance(layer, bool):
        end = _end_without(model, graph, layer)
    elif isinstance(layer, (str, keras.layers.Layer)):
        end = list(_called(model, graph, layer).outputs)
    else:
        raise TypeError(f"`layer` must be a layer, its name or a negative number, not {layer!r}.")
    # The same name: a number that Keras gave it would no longer be known as one in another.
    return keras.Model(functional(model).input, end[0] if len(end) == 1 else end, name=model.name)


def _called(model: keras.Model, graph: list[Call], layer: str | keras.layers.Layer) -> Call:
    """The one call of a layer."""
    stable = dict(zip(map(id, model.layers), stable_layer_names(model.layers)))
    found = [
        call
        for call in graph
        if layer is call.operation or layer in (call.operation.name, stable.get(id(call.operation)))
    ]
    if len(found) == 1:
        return found[0]
    name = layer if isinstance(layer, str) else layer.name
    if len({id(call.operation) for call in found}) > 1:
        raise ValueError(
            f"`layer` {name!r} is the stable name of one layer of model {model.name!r} and the one that "
            "Keras shows of another: pass the layer itself."
        )
    if found:
        raise ValueError(
            f"`layer` {name!r} is called {len(found)} times in model {model.name!r}, so it has no one "
            "output: choose a layer before or after it."
        )
    names = [one.name for one in model.layers]
    within = [
        outer.name
        for outer in model.layers
        if isinstance(outer, keras.Model) and name in [inner.name for inner in outer.layers]
    ]
    if within:
        raise ValueError(
            f"`layer` {name!r} lies inside of the model {within[0]!r}, a layer of {model.name!r}: truncate "
            f"that one, `truncate(model.get_layer({within[0]!r}), {name!r})`."
        )
    raise ValueError(
        f"`layer` {name!r} is no layer of model {model.name!r}.{did_you_mean(name, names, most=3)} "
        f"Its last ones: {', '.join(names[-12:])}."
    )


def _end_without(model: keras.Model, graph: list[Call], count: int) -> list[Any]:
    """The output of what is left without the last layers."""
    removable = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if count >= 0 or -count >= len(removable):
        raise ValueError(
            f"`layer` {count} must be the name of a layer, or take off 1 to {len(removable) - 1} layers of "
            f"model {model.name!r} as a negative number."
        )
    removed = {id(layer) for layer in removable[count:]}
    gone: set[int] = set()
    for call in graph:
        if id(call.operation) in removed or any(id(tensor) in gone for tensor in call.inputs):
            gone.update(map(id, call.outputs))
    left = [call for call in graph if id(call.outputs[0]) not in gone]
    read = {id(tensor) for call in left for tensor in call.inputs}
    ends = [call for call in left if call.inputs and not any(id(tensor) in read for tensor in call.outputs)]
    if len(ends) != 1:
        names = ", ".join(repr(call.operation.name) for call in ends)
        raise ValueError(
            f"`layer` {count}: without its last {-count} layers, model {model.name!r} ends in {len(ends)} "
            f"places, {names}: name the one to keep."
        )
    return list(ends[0].outputs)
