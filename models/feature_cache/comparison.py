"""Whether features from before are those that a frozen part would give now."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from ..graph.keras_graph import calls

_EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
_LEAST = 0.01  # how small a channel is still measured by its own size, as a share of all channels'


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
