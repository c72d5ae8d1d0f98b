"""Whether features from before are those that a frozen part would give now."""

from __future__ import annotations

import codecs
import hashlib
import json
import marshal
from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any

import keras
import numpy as np

from .keras_private import Call, calls

_EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
_LEAST = 0.01  # how small a channel is still measured by its own size, as a share of all channels'
_READ = ("input_layers", "output_layers", "keras_history")  # where a model's config names layers to read


def fingerprint(front: keras.Model, x: Any, copies: int) -> str:
    """A checksum of layers, weights and data; names of layers, which Keras numbers, are left out.

    It is of what layers tell of themselves, not of their code: see `same_features`.

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


def tolerance(front: keras.Model) -> float:
    """How far features may be off when another machine computes them, as a share of their size.

    In float32, other kernels of a CPU differ by some 1e-5, and by 2e-4 in a ResNet50 that was not trained. In
    half precision it is more by the coarser rounding, with bfloat16 some 3 to 50 percent: some is let pass,
    and what differs by more is made again, as that costs time, and features of another function the training.
    """
    types = {getattr(call.operation, "compute_dtype", None) for call in calls(front)}
    return max([1e-3, *(16 * epsilon for dtype, epsilon in _EPSILON.items() if dtype in types)])


def same_features(kept: Sequence[np.ndarray], made: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether features are the same but for rounding; NaN is the same as NaN."""
    if [(array.shape, array.dtype) for array in kept] != [(array.shape, array.dtype) for array in made]:
        return False
    return all(_close(one, other, tolerance) for one, other in zip(kept, made))


def _close(one: np.ndarray, other: np.ndarray, tolerance: float) -> bool:
    # Not in float16, in which a square may overflow; of integers and bool as well.
    wide = np.result_type(one.dtype, np.float64)
    one, other = one.astype(wide), other.astype(wide)
    finite = np.isfinite(one)
    # Rounding goes by the size of the sums, not of what is left of them: a 0 of a ReLU may become 1e-7. Sums
    # are of one size within a channel: those of one branch may be a thousandth of another's beside it.
    channel = tuple(range(one.ndim - 1)) or None
    size = _size(one, finite, channel)
    # In a channel whose few examples are all 0, or almost, nothing tells the size of its sums. On other
    # kernels such a value of a MobileNetV2 was off by 1e-6 of the size of all, the most of any by 1e-5.
    size = np.maximum(size, _LEAST * _size(one, finite, None))
    with np.errstate(invalid="ignore"):  # inf - inf
        close = finite & (np.abs(other - one) <= tolerance * (np.abs(one) + size))
    return bool(np.all(close | (one == other) | (np.isnan(one) & np.isnan(other))))


def _size(array: np.ndarray, finite: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    """The root of the mean square of finite values."""
    squares = np.abs(np.where(finite, array, 0)) ** 2
    total = np.sum(squares, axes, keepdims=True)
    return np.asarray(np.sqrt(total / np.maximum(np.sum(finite, axes, keepdims=True), 1)))
