"""The graph of a Functional model, call by call, from Keras' private interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ...optim.common.types import Tensors
from ...optim.private.keras_private import graph_nodes, is_graph_model
from ...optim.private.tensorflow_private import node_lists


class Call(NamedTuple):
    """One call of a layer or operation in a model's graph."""

    operation: keras.Operation  # a layer, or an operation of `keras.ops`
    inputs: Sequence[keras.KerasTensor]  # empty for an input of the model
    outputs: Sequence[keras.KerasTensor]
    # Maps a dict, `id` of an input -> new value, to `(args, kwargs)` of the call with these values.
    arguments: Callable[[Mapping[int, object]], tuple[tuple[Any, ...], dict[str, Any]]]


def functional(model: keras.Model) -> keras.Model:
    """The model itself if it is Functional, or the Functional model inside of a Sequential one.

    Raises ValueError for a subclassed model, or one whose graph is not known yet.
    """
    if not is_graph_model(model):
        raise ValueError(
            f"`model` {getattr(model, 'name', model)!r} is a {type(model).__name__}, whose code alone knows "
            "in which order its layers run: only Functional and Sequential models can be cut."
        )
    graph = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if graph is None:
        raise ValueError(
            f"`model` {model.name!r} does not know the shape of its input yet: start it with "
            "`keras.Input(shape)`."
        )
    return graph


def has_mask(tensor: keras.KerasTensor) -> bool:
    """Whether a symbolic tensor carries a mask, as an Embedding's does with `mask_zero=True`."""
    return getattr(tensor, "_keras_mask", None) is not None


def stock_family(layer: keras.layers.Layer) -> str:
    """The family of a Keras layer, or of its Keras base class, such as "rnn" or "preprocessing".

    It is the folder in which Keras defines the class; "" for a custom layer and for a `Lambda`.
    """
    if isinstance(layer, keras.layers.Lambda):
        return ""
    prefix = "keras.src.layers."
    modules = [base.__module__ for base in type(layer).__mro__ if base is not keras.layers.Layer]
    families = [module.removeprefix(prefix) for module in modules if module.startswith(prefix)]
    return families[0].partition(".")[0] if families else ""


def standardized_inputs(model: keras.Model, x: Tensors) -> list[tf.Tensor]:
    """The inputs as a call of the model converts them: a tensor for each, with the model's dtype and rank."""
    return list(functional(model)._standardize_inputs(x))


def calls(model: keras.Model) -> list[Call]:
    """The calls in a model's graph in topological order: each after those whose outputs it reads.

    (`layer.output` is the output of a layer's first call, which may have been in another model.)
    """
    return [
        Call(node.operation, tuple(node.input_tensors), tuple(node.output_tensors), node.arguments.fill_in)
        for node in graph_nodes(functional(model))
    ]


def traced_operations(call: Call, training: bool) -> set[str]:
    """The types of the TensorFlow operations in the graph of a layer's call."""

    def run(*tensors: tf.Tensor) -> Tensors:
        args, kwargs = call.arguments(dict(zip(map(id, call.inputs), tensors)))
        return call.operation(*args, **{**kwargs, "training": training})

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in call.inputs]
    graph = tf.function(run, autograph=False).get_concrete_function(*specs).graph.as_graph_def()
    return {node.op for nodes in node_lists(graph) for node in nodes}
