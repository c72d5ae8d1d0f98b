"""Names for what flows through the packages.

TensorFlow and Keras have no types, so to a type checker most of these are `Any`. They are for readers: a
signature says what kind of value it takes, and in which shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

# A tensor of shape ().
Scalar: TypeAlias = tf.Tensor
# What a tape gives for a variable: of the variable's shape, or some of its rows.
Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices
# A tensor, or tuples, lists and dicts of them, as `tf.nest` takes them.
Tensors: TypeAlias = Any
# `x`, `(x, y)` or `(x, y, sample_weight)`: tensors whose first dimension is the examples.
Batch: TypeAlias = Any
# Of any shape and dtype.
Array: TypeAlias = np.ndarray[Any, Any]
# What the `json` module writes and reads back.
Json: TypeAlias = Mapping[str, Any] | Sequence[Any] | str | float | bool | None
