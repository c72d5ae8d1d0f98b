"""A checksum of everything that determines the features: layers, weights and data."""

from __future__ import annotations

import codecs
import hashlib
import json
import marshal
from collections.abc import Mapping
from types import CodeType
from typing import Any, TypeAlias

import keras
import numpy as np

from ...optim.common.types import Json, Tensors
from ..graph.keras_graph import Call, calls

# What `get_config` returns.
Config: TypeAlias = dict[str, Any]

_REFERENCES = ("input_layers", "output_layers", "keras_history")  # keys of configs that name layers


def fingerprint(front: keras.Model, x: Tensors, copies: int) -> str:
    """A checksum of layers, weights and data, and of the number of augmented copies.

    Names of layers are left out, as Keras numbers them in the order in which a process builds them. A layer
    counts by its `get_config`, not by its code; `comparison` finds features that differ for other reasons.

    Raises:
        ValueError: a layer or operation without a `get_config`.
    """
    digest = hashlib.blake2b(digest_size=20)
    numbers: dict[int, int] = {}  # id of a tensor -> its number, in the order of computation
    for call in calls(front):
        config = _stable({key: value for key, value in _config(call).items() if key != "name"})
        inputs = [numbers[id(tensor)] for tensor in call.inputs]
        for tensor in call.outputs:
            numbers[id(tensor)] = len(numbers)
        # The other arguments of the call, such as the 2 in `x * 2`.
        args = call.arguments({id(tensor): f"tensor {numbers[id(tensor)]}" for tensor in call.inputs})
        others = [_argument_text(value) for value in keras.tree.flatten(args)] if call.inputs else []
        row = [type(call.operation).__name__, config, inputs, others, copies]
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    for weight in front.weights:
        digest.update(weight.numpy().tobytes())
    for array in keras.tree.flatten(x):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _config(call: Call) -> Config:
    operation, kind = call.operation, type(call.operation).__name__
    try:
        config: Config = operation.get_config()
    except NotImplementedError as error:  # raised by Keras for arguments that it cannot serialize
        if not isinstance(operation, keras.layers.Layer):  # of `keras.ops`, which a user cannot change
            raise ValueError(
                f"`path`: operation {operation.name!r}, a {kind}, cannot tell what it was made with (as of "
                "arrays that it was given), so saved features could not be told from those of another such "
                "operation. Keep the features in memory, `path=None`."
            ) from error
        raise ValueError(
            f"`path`: layer {operation.name!r}, a {kind}, has no `get_config` that tells what it was "
            "made with, so saved features could not be told from those of another such layer. Define "
            f"`get_config` in {kind}, or in the class of the layer inside it that lacks it; or keep the "
            "features in memory, `path=None`."
        ) from error
    return config


def _stable(config: Any, indices: Mapping[str, int] | None = None) -> Any:
    """The config without values that differ between two layers with equal arguments.

    These are the names of layers inside it, as in a `TimeDistributed`, and values that `marshal` writes of a
    lambda beside its code: its line in the file, and how often a constant is referred to. `indices` maps the
    names of layers in the surrounding model to indices.
    """
    if isinstance(config, (list, tuple)):
        return [_stable(item, indices) for item in config]
    if not isinstance(config, dict):
        return config
    if "layers" in config and "input_layers" in config:  # of a Functional model, which may have operations
        indices = {layer["name"]: index for index, layer in enumerate(config["layers"])}
        config = {**config, "layers": [_without_name(layer) for layer in config["layers"]]}
    elif _is_layer(config):
        config = _without_name(config)
    config = {
        key: (_indexed(value, indices) if indices and key in _REFERENCES else _stable(value, indices))
        for key, value in config.items()
    }
    if config.get("code") and config.keys() == {"code", "defaults", "closure"}:
        config["code"] = _code_parts(marshal.loads(codecs.decode(config["code"].encode(), "base64")))
    return config


def _is_layer(config: Config) -> bool:
    """Whether it is a serialized layer. Names of other objects, such as dtype policies, have a meaning."""
    inner = config.get("config")
    if "class_name" not in config or not isinstance(inner, dict):
        return False
    return "trainable" in inner or config.get("module") == "keras.layers"


def _without_name(layer: Config) -> Config:
    config = {key: value for key, value in layer["config"].items() if key != "name"}
    return {**{key: value for key, value in layer.items() if key != "name"}, "config": config}


def _indexed(references: Json, indices: Mapping[str, int]) -> Json:
    """References to layers by index instead of by name."""
    return keras.tree.map_structure(lambda item: indices[item] if isinstance(item, str) else item, references)


def _code_parts(code: CodeType) -> list[object]:
    constants = [_code_parts(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars]


def _argument_text(value: object) -> str:
    if hasattr(value, "shape"):
        array = np.asarray(value)
        return f"{array.dtype} {array.shape} {hashlib.blake2b(array.tobytes()).hexdigest()}"
    return repr(value)
