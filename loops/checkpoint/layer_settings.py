"""The settings of a model's layers that no variable shows: rates, activations, regularizers, dtypes."""

from __future__ import annotations

import collections
import json
import zlib
from typing import Any

import keras

from ...optim.common.types import Json
from ...optim.naming.model_tree import ModelTree

# What the weights, the seeds' states and `frozen_layers` tell, or what only matters when a layer is built.
_LEFT_OUT = ("name", "trainable", "dtype", "seed", "batch_shape", "batch_input_shape")
_LONG = 200  # characters, more than which are not kept as they are


def layer_settings(tree: ModelTree) -> dict[str, Json]:
    """The settings of each layer by its stable name, and the dtype policy of most of them."""
    nodes = [node for node in tree.nodes if not isinstance(node.layer, keras.Model)]
    policies = {node.path: _policy(node.layer) for node in nodes}
    most = collections.Counter(policies.values()).most_common(1)
    found: dict[str, Json] = {"dtype_policy": most[0][0] if most else None}
    for node in nodes:
        if policies[node.path] != found["dtype_policy"]:
            found[f"{node.path}/dtype_policy"] = policies[node.path]
        for name, value in _config(node.layer).items():
            if isinstance(value, dict) and "class_name" in value:
                value = {key: value.get(key) for key in ("class_name", "config")}
                config = value["config"]
                # A layer has its own node; a lambda would be its bytes, which tell of its file's path too.
                if isinstance(config, dict) and "name" in config or value["class_name"] == "__lambda__":
                    continue
            try:
                text = json.dumps(value, default=float)  # NumPy's numbers as Python's, tuples as lists
            except (TypeError, ValueError):
                continue
            long = len(text) > _LONG  # a vocabulary, say
            found[f"{node.path}/{name}"] = (
                f"checksum {zlib.crc32(text.encode())}" if long else json.loads(text)
            )
    return found


def is_json(value: object) -> bool:
    """Whether a value comes back from JSON as it was."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _policy(layer: keras.layers.Layer) -> str:
    return str(layer.dtype_policy.name)


def _config(layer: keras.layers.Layer) -> dict[str, Any]:
    config: dict[str, Any]
    try:
        config = layer.get_config()
    except Exception:  # of a layer of the user's own, which may raise anything
        return {}
    left_out = (*_LEFT_OUT, *(name for name in config if name.endswith("initializer")))
    return {name: value for name, value in config.items() if name not in left_out}
