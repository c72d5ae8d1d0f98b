"""Cuts the graph of a model in two."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from ...optim.common.types import Tensors
from ...optim.private.keras_private import is_graph_model
from .inputs import matched_inputs
from .keras_graph import Call, calls, functional, has_mask, standardized_inputs


class SplitModel(NamedTuple):
    """A model cut in two. The tensors of the cut are outputs of the front, or inputs of the whole model."""

    # From the model's inputs to a list of its outputs; None if the cut has only inputs of the model.
    front: keras.Model | None
    rest: keras.Model  # from the tensors of the cut, in their order, to the model's outputs
    # For each tensor of the cut: whether it is an input of the model; its index there or in front's outputs.
    sources: Sequence[tuple[bool, int]]

    def rest_inputs(self, front_outputs: Sequence[Tensors], x: Tensors) -> Tensors:
        """The inputs of the rest, in the order of the cut: outputs of the front, or inputs `x` of the model.

        One tensor or array, or a tuple of them.
        """
        inputs = keras.tree.flatten(x)  # `x` has the structure of the model's inputs
        values = [(inputs if is_input else front_outputs)[index] for is_input, index in self.sources]
        return tuple(values) if len(values) > 1 else values[0]


def split_graph(model: keras.Model, in_rest: Callable[[Call], bool]) -> SplitModel:
    """Cuts a model before the calls for which `in_rest` is true; calls that read their outputs follow them.

    Both parts share the layers of the model, and so its variables. The cut may cross any number of tensors:
    that of a chain, the arms of a branch, a skip connection.

    `in_rest` is called in the order of the calls, for those that do not read from the rest already. Raises
    ValueError for a subclassed model, a cut after which nothing is left, or one through a masked sequence.
    """
    whole, graph = functional(model), calls(model)
    rest_tensors: set[int] = set()  # ids of the tensors that the rest computes
    for call in graph:
        if call.inputs and (any(id(tensor) in rest_tensors for tensor in call.inputs) or in_rest(call)):
            rest_tensors.update(map(id, call.outputs))
    if not rest_tensors:
        raise ValueError(f"`model` {model.name!r} has nothing after the cut.")
    crossing: dict[int, keras.KerasTensor] = {}
    for call in graph:
        if any(id(tensor) in rest_tensors for tensor in call.outputs):
            crossing.update((id(tensor), tensor) for tensor in call.inputs if id(tensor) not in rest_tensors)
    # The rest also returns outputs of the model that the front computes.
    outputs = keras.tree.flatten(whole.output)
    crossing.update((id(tensor), tensor) for tensor in outputs if id(tensor) not in rest_tensors)
    inputs = {id(tensor): index for index, tensor in enumerate(keras.tree.flatten(whole.input))}
    cut = list(crossing.values())
    computed = [tensor for tensor in cut if id(tensor) not in inputs]
    sources = {id(tensor): (False, index) for index, tensor in enumerate(computed)}
    sources |= {tensor: (True, index) for tensor, index in inputs.items()}
    masked = [tensor for tensor in computed if has_mask(tensor)]
    if masked:
        raise ValueError(
            f"`model` {model.name!r} would be cut where a mask goes with the values, {masked[0].name!r}: "
            "the rest would get the values without it."
        )
    new_inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in cut]
    values = {id(tensor): new for tensor, new in zip(cut, new_inputs)}
    _repeat_calls([call for call in graph if id(call.outputs[0]) in rest_tensors], values)
    outputs = keras.tree.pack_sequence_as(whole.output, [values[id(tensor)] for tensor in outputs])
    return SplitModel(
        keras.Model(whole.input, computed, name=f"{model.name}_front") if computed else None,
        keras.Model(new_inputs if len(new_inputs) > 1 else new_inputs[0], outputs, name=f"{model.name}_rest"),
        [sources[id(tensor)] for tensor in cut],
    )


def without_nested_models(model: keras.Model) -> keras.Model:
    """A model of the same layers in which no layer is a model; `model` itself if there are none."""
    if not any(call.inputs and is_graph_model(call.operation) for call in calls(model)):
        return model
    whole = functional(model)
    outputs = _repeat_model(whole, keras.tree.flatten(whole.input))
    return keras.Model(whole.input, keras.tree.pack_sequence_as(whole.output, outputs), name=model.name)


def _repeat_model(model: keras.Model, x: Tensors) -> list[keras.KerasTensor]:
    """Calls a model's layers again, on other symbolic inputs; returns its outputs."""
    whole = functional(model)
    inputs = keras.tree.flatten(matched_inputs(model, x))
    values = {id(own): new for own, new in zip(keras.tree.flatten(whole.input), inputs)}
    _repeat_calls([call for call in calls(model) if call.inputs], values)
    return [values[id(output)] for output in keras.tree.flatten(whole.output)]


def _repeat_calls(graph: Sequence[Call], values: dict[int, keras.KerasTensor]) -> None:
    """Repeats calls on new symbolic tensors; `values`, old `id` -> new tensor, is extended."""
    for call in graph:
        args, kwargs = call.arguments(values)
        if is_graph_model(call.operation):
            outputs = _repeat_model(call.operation, args[0] if args else kwargs["inputs"])
        else:
            outputs = keras.tree.flatten(call.operation(*args, **kwargs))
        values.update((id(own), new) for own, new in zip(call.outputs, outputs))


def run_partly_training(model: keras.Model, x: Tensors, training: Collection[str]) -> list[tf.Tensor]:
    """Runs a model with the layers named in `training` in training mode, all others in inference mode.

    The model must have no nested models. (A call of the model would run all layers in the same mode.)
    """
    whole = functional(model)
    values = dict(zip(map(id, keras.tree.flatten(whole.input)), standardized_inputs(model, x)))
    for call in calls(model):
        if call.inputs:
            args, kwargs = call.arguments(values)
            if isinstance(call.operation, keras.layers.Layer):
                kwargs["training"] = call.operation.name in training
            outputs = keras.tree.flatten(call.operation(*args, **kwargs))
            values.update(zip(map(id, call.outputs), outputs))
    return [values[id(output)] for output in keras.tree.flatten(whole.output)]
