"""Compares the features in a folder with those that the frozen part computes now."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from ...optim.common.types import Array
from ..graph.keras_graph import calls

_EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
_MIN_CHANNEL_SIZE = 0.01  # a smaller channel counts as of this size, a share of that of all channels


def rounding_tolerance(front: keras.Model) -> float:
    """How much features may differ between machines by rounding, as a share of their size.

    In float32, the kernels of another CPU differ by some 1e-5, and by 2e-4 in a ResNet50 that was not
    trained. Half precision rounds more coarsely: bfloat16 differs by some 3 to 50 percent. The limit lies in
    between: computing features again costs only time, but training on wrong features is an error.
    """
    types = {getattr(call.operation, "compute_dtype", None) for call in calls(front)}
    return max([1e-3, *(16 * epsilon for dtype, epsilon in _EPSILON.items() if dtype in types)])


def same_features(saved: Sequence[Array], computed: Sequence[Array], tolerance: float) -> bool:
    """Whether features are equal up to rounding; NaN equals NaN."""
    if [(array.shape, array.dtype) for array in saved] != [(array.shape, array.dtype) for array in computed]:
        return False
    return all(_close(one, other, tolerance) for one, other in zip(saved, computed))


def _close(one: Array, other: Array, tolerance: float) -> bool:
    # In float64, as squares overflow in float16. Integers and bool are compared in the same way.
    wide = np.result_type(one.dtype, np.float64)
    one, other = one.astype(wide), other.astype(wide)
    finite = np.isfinite(one)
    # The rounding error of a sum depends on the size of its terms, not of the result: a 0 of a ReLU may
    # become 1e-7. The size is taken by channel, as one branch may have values a thousand times another's.
    channel = tuple(range(one.ndim - 1)) or None
    size = _size(one, finite, channel)
    # A channel in which these few examples are (almost) all 0 does not show the size of its sums. With other
    # kernels such values of a MobileNetV2 were off by 1e-6 of the size of all channels, 1e-5 at most.
    size = np.maximum(size, _MIN_CHANNEL_SIZE * _size(one, finite, None))
    with np.errstate(invalid="ignore"):  # inf - inf
        close = finite & (np.abs(other - one) <= tolerance * (np.abs(one) + size))
    return bool(np.all(close | (one == other) | (np.isnan(one) & np.isnan(other))))


def _size(array: Array, finite: Array, axes: tuple[int, ...] | None) -> Array:
    """The root mean square of the finite values."""
    squares = np.abs(np.where(finite, array, 0)) ** 2
    total = np.sum(squares, axes, keepdims=True)
    return np.asarray(np.sqrt(total / np.maximum(np.sum(finite, axes, keepdims=True), 1)))
