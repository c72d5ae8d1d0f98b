"""A checksum of what features are made of."""

from __future__ import annotations

import codecs
import hashlib
import json
import marshal
from collections.abc import Mapping
from types import CodeType
from typing import Any

import keras
import numpy as np

from ..graph.keras_graph import Call, calls

_READ = ("input_layers", "output_layers", "keras_history")  # where a model's config names layers to read


def fingerprint(front: keras.Model, x: Any, copies: int) -> str:
    """A checksum of layers, weights and data; names of layers, which Keras numbers, are left out.

    It is of what layers tell of themselves, not of their code: `feature_check` looks for what that hides.

    Raises:
        ValueError: a layer or operation that cannot tell what it was made with.
    """
    digest = hashlib.blake2b(digest_size=20)
    made: dict[int, int] = {}
    for call in calls(front):
        config = _stable({key: value for key, value in _config(call).items() if key != "name"})
        reads = [made[id(tensor)] for tensor in call.inputs]
        for tensor in call.outputs:
            made[id(tensor)] = len(made)
        # What else the call was given, such as the 2 in `x * 2`.
        args = call.arguments({id(tensor): f"tensor {made[id(tensor)]}" for tensor in call.inputs})
        given = [_said(value) for value in keras.tree.flatten(args)] if call.inputs else []
        said = [type(call.operation).__name__, config, reads, given, copies]
        digest.update(json.dumps(said, sort_keys=True, default=str).encode())
    for weight in front.weights:
        digest.update(weight.numpy().tobytes())
    for array in keras.tree.flatten(x):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _config(call: Call) -> dict[str, Any]:
    operation, kind = call.operation, type(call.operation).__name__
    try:
        config: dict[str, Any] = operation.get_config()
    except NotImplementedError as error:
        if not isinstance(operation, keras.layers.Layer):  # of `keras.ops`: not the user's to change
            raise ValueError(
                f"`path`: operation {operation.name!r}, a {kind}, cannot tell what it was made with (as of "
                "arrays that it was given), so kept features could not be told from those of another such "
                "operation. Keep the features in memory, `path=None`."
            ) from error
        raise ValueError(
            f"`path`: layer {operation.name!r}, a {kind}, has no `get_config` that tells what it was "
            "made with, so kept features could not be told from those of another such layer. Define "
            f"`get_config` in {kind}, or in the class of the layer inside it that lacks it; or keep the "
            "features in memory, `path=None`."
        ) from error
    return config


def _stable(config: Any, places: Mapping[str, int] | None = None) -> Any:
    """The same of the same layer: without names of layers within it, as `TimeDistributed` has one.

    And the code of a lambda without what else `marshal` writes of it: its line in the file, and how often a
    constant was looked at.

    Args:
        config: of a layer, or a part of that.
        places: those of layers in the model around, by name.
    """
    if isinstance(config, (list, tuple)):
        return [_stable(one, places) for one in config]
    if not isinstance(config, dict):
        return config
    if "layers" in config and "input_layers" in config:  # of a Functional model, which may have operations
        places = {layer["name"]: place for place, layer in enumerate(config["layers"])}
        config = {**config, "layers": [_nameless(layer) for layer in config["layers"]]}
    elif _is_layer(config):
        config = _nameless(config)
    config = {
        key: _placed(value, places) if places and key in _READ else _stable(value, places)
        for key, value in config.items()
    }
    if config.get("code") and config.keys() == {"code", "defaults", "closure"}:
        config["code"] = _meaning(marshal.loads(codecs.decode(config["code"].encode(), "base64")))
    return config


def _is_layer(config: dict[str, Any]) -> bool:
    """Whether it is a serialized layer. Elsewhere a `name` may mean something: that of a precision does."""
    inner = config.get("config")
    if "class_name" not in config or not isinstance(inner, dict):
        return False
    return "trainable" in inner or config.get("module") == "keras.layers"


def _nameless(layer: dict[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in layer["config"].items() if key != "name"}
    return {**{key: value for key, value in layer.items() if key != "name"}, "config": config}


def _placed(reads: Any, places: Mapping[str, int]) -> Any:
    """What is read, with the places of layers for their names."""
    return keras.tree.map_structure(lambda one: places[one] if isinstance(one, str) else one, reads)


def _meaning(code: CodeType) -> list[Any]:
    constants = [_meaning(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars]


def _said(value: Any) -> str:
    if hasattr(value, "shape"):
        array = np.asarray(value)
        return f"{array.dtype} {array.shape} {hashlib.blake2b(array.tobytes()).hexdigest()}"
    return repr(value)
