"""What comparisons of weights share: three variables of fixed numbers, a group for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

NAMES = ("a", "b", "c")
SHAPES = {"a": (4, 3), "b": (5, 2), "c": (3,)}


class Weights(keras.layers.Layer):
    """A layer of the variables `a`, `b` and `c`, the same each time."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.RandomState(0)
        for name in NAMES:
            value = random.standard_normal(SHAPES[name])
            setattr(self, name, keras.Variable(value, dtype="float32", name=name))
        self.built = True

    def values(self) -> list[npt.NDArray[Any]]:
        return [variable.numpy() for variable in self.trainable_variables]


def assert_close(found: Iterable[Any], expected: Iterable[Any]) -> None:
    """Within 1e-6 of the largest number of each."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(other).max())
