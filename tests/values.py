"""Values by name, and that they are the same to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def numbers(variables: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The values that variables or tensors have now, by the same names: `numbers(step.state())`."""
    return {name: variable.numpy() for name, variable in variables.items()}


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """The same names, and equal values; NaN equals NaN."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
