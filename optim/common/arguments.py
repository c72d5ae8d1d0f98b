"""Checks of arguments: the type; of numbers also that they are finite and within bounds."""

from __future__ import annotations

import math
import numbers

import numpy as np

from .messages import short_repr


def real_number(
    name: str,
    value: object,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """The argument of this name as a float. NumPy's numbers are allowed, bools and tensors are not.

    A NumPy array of shape () is the number that it holds.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinite or out of bounds.
    """
    bounds = _bounds(at_least=at_least, above=above, at_most=at_most, below=below)
    value = _item(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number{bounds}, got {short_repr(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = -math.inf if value < 0 else math.inf
    within = at_least <= number <= at_most and above < number < below
    if not (math.isfinite(number) and within):
        raise ValueError(f"`{name}` must be a finite number{bounds}, got {number:g}")
    return number


def whole_number(name: str, value: object, *, at_least: int) -> int:
    """The argument of this name as an int; TypeError for no whole number, ValueError below `at_least`."""
    value = _item(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be a whole number of at least {at_least}, got {short_repr(value)}")
    number = int(value)
    if number < at_least:
        raise ValueError(f"`{name}` must be at least {at_least}, got {number}")
    return number


def true_or_false(name: str, value: object) -> bool:
    """The argument of this name; TypeError for what is no bool."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False, got {short_repr(value)}")
    return value


def _item(value: object) -> object:
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _bounds(**limits: float) -> str:
    words = [f"{word.replace('_', ' ')} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
    return f" {' and '.join(words)}" if words else ""
