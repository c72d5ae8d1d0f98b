"""`truncate`: removes the end of a model."""

from __future__ import annotations

import keras

from ...optim.common.messages import did_you_mean
from ...optim.naming.layer_names import stable_layer_names
from ..graph.keras_graph import Call, calls, functional


def truncate(model: keras.Model, layer: str | int | keras.layers.Layer) -> keras.Model:
    """The model up to a layer, whose output becomes the model's: bottleneck features.

    Both models share their layers, so training one trains the other.
    `classifier(truncate(model, "block4_pool"), classes)` adds a head to any layer.

    Args:
        model: a Functional or Sequential model, branching or not.
        layer: the last layer to keep, or its name, Keras' or the stable one of `optim`; or a negative
            number: -2 removes the last two of `model.layers`. The rest must end in one layer.

    Returns:
        A Functional model with the same inputs.

    Raises:
        ValueError: no such layer, or one that the model calls more than once; more layers to remove than
            there are; a number that cuts through a residual unit or the like, or leaves several ends; a
            subclassed model, which has no graph.
        TypeError: `layer` is none of these.

    Example:
        >>> from gradloop import models
        >>> features = models.truncate(models.backbone("VGG16", (64, 64, 3)), "block4_pool")
        >>> features.output_shape
        (None, 4, 4, 512)
    """
    graph = calls(model)
    if isinstance(layer, int) and not isinstance(layer, bool):
        end = _output_without(model, graph, layer)
    elif isinstance(layer, (str, keras.layers.Layer)):
        end = list(_only_call(model, graph, layer).outputs)
    else:
        raise TypeError(f"`layer` must be a layer, its name or a negative number, not {layer!r}.")
    # The same name, as an automatic name is recognised only while it keeps its number.
    return keras.Model(functional(model).input, end[0] if len(end) == 1 else end, name=model.name)


def _only_call(model: keras.Model, graph: list[Call], layer: str | keras.layers.Layer) -> Call:
    """The only call of a layer; ValueError if there is none, or several."""
    stable = dict(zip(map(id, model.layers), stable_layer_names(model.layers)))
    matches = [
        call
        for call in graph
        if layer is call.operation or layer in (call.operation.name, stable.get(id(call.operation)))
    ]
    if len(matches) == 1:
        return matches[0]
    name = layer if isinstance(layer, str) else layer.name
    if len({id(call.operation) for call in matches}) > 1:
        raise ValueError(
            f"`layer` {name!r} is the stable name of one layer of model {model.name!r} and the one that "
            "Keras shows of another: pass the layer itself."
        )
    if matches:
        raise ValueError(
            f"`layer` {name!r} is called {len(matches)} times in model {model.name!r}, so it has no one "
            "output: choose a layer before or after it."
        )
    names = [candidate.name for candidate in model.layers]
    nested = [outer for outer in model.layers if isinstance(outer, keras.Model)]
    within = [outer.name for outer in nested if name in [inner.name for inner in outer.layers]]
    if within:
        raise ValueError(
            f"`layer` {name!r} lies inside the model {within[0]!r}, a layer of {model.name!r}: truncate "
            f"that one, `truncate(model.get_layer({within[0]!r}), {name!r})`."
        )
    raise ValueError(
        f"`layer` {name!r} is no layer of model {model.name!r}.{did_you_mean(name, names, most=3)} "
        f"Its last ones: {', '.join(names[-12:])}."
    )


def _output_without(model: keras.Model, graph: list[Call], count: int) -> list[keras.KerasTensor]:
    """The output of the model without its last layers."""
    removable = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if count >= 0 or -count >= len(removable):
        raise ValueError(
            f"`layer` {count} must be the name of a layer, or take off 1 to {len(removable) - 1} layers of "
            f"model {model.name!r} as a negative number."
        )
    removed = {id(layer) for layer in removable[count:]}
    removed_tensors: set[int] = set()
    for call in graph:
        if id(call.operation) in removed or any(id(tensor) in removed_tensors for tensor in call.inputs):
            removed_tensors.update(map(id, call.outputs))
    left = [call for call in graph if id(call.outputs[0]) not in removed_tensors]
    read = {id(tensor) for call in left for tensor in call.inputs}
    ends = [call for call in left if call.inputs and not any(id(tensor) in read for tensor in call.outputs)]
    if len(ends) != 1:
        names = ", ".join(repr(call.operation.name) for call in ends)
        raise ValueError(
            f"`layer` {count}: without its last {-count} layers, model {model.name!r} ends in {len(ends)} "
            f"places, {names}: name the one to keep."
        )
    inside = {id(tensor) for call in left if call.inputs for tensor in call.outputs}
    inside -= set(map(id, ends[0].outputs))
    gone = [call for call in graph if id(call.outputs[0]) in removed_tensors]
    past = [call.operation.name for call in gone if any(id(tensor) in inside for tensor in call.inputs)]
    if past:
        raise ValueError(
            f"`layer` {count}: without its last {-count} layers, model {model.name!r} ends within a block, "
            f"at {ends[0].operation.name!r}, past which a connection leads to {past[0]!r}: take off another "
            "number, or name the layer to keep."
        )
    return list(ends[0].outputs)
