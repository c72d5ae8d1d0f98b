"""Whether features from before are those that a frozen part would give now."""

from __future__ import annotations

import codecs
import hashlib
import json
import marshal
from collections.abc import Sequence
from types import CodeType
from typing import Any

import keras
import numpy as np

from .keras_private import Call, calls

_EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def fingerprint(front: keras.Model, x: Any, copies: int) -> str:
    """A checksum of layers, weights and data; names of layers, which Keras numbers, are left out.

    It is of what layers tell of themselves, not of their code: see `same_features`.

    Raises:
        ValueError: a layer that cannot tell what it was made with.
    """
    digest = hashlib.blake2b(digest_size=20)
    made: dict[int, int] = {}
    for call in calls(front):
        config = {key: _stable(value) for key, value in _config(call).items() if key != "name"}
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
    try:
        config: dict[str, Any] = call.operation.get_config()
    except NotImplementedError as error:
        kind = type(call.operation).__name__
        raise ValueError(
            f"`path`: layer {call.operation.name!r}, a {kind}, has no `get_config` that tells what it was "
            "made with, so kept features could not be told from those of another such layer. Define "
            f"`get_config` in {kind}, or in the class of the layer inside it that lacks it; or keep the "
            "features in memory, `path=None`."
        ) from error
    return config


def _stable(config: Any) -> Any:
    """The same of the same layer: the code of a lambda without what else `marshal` writes of it.

    That is its line in the file, and how often a constant was looked at.
    """
    if not isinstance(config, dict):
        return config
    config = {key: _stable(value) for key, value in config.items()}
    if config.get("code") and config.keys() == {"code", "defaults", "closure"}:
        config["code"] = _meaning(marshal.loads(codecs.decode(config["code"].encode(), "base64")))
    return config


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
    # Rounding goes by the size of the sums, not of what is left of them: a 0 of a ReLU may become 1e-7.
    finite = one[np.isfinite(one)]
    size = np.sqrt(np.mean(np.abs(finite) ** 2)) if finite.size else 0.0
    return bool(np.allclose(other, one, rtol=tolerance, atol=tolerance * size, equal_nan=True))
