"""Checks of the numbers that several networks take."""

from __future__ import annotations

import operator


def whole_number(name: str, value: int, at_least: int = 1) -> int:
    """The value as an int; ValueError unless it is a whole number that is large enough."""
    try:
        number = operator.index(value)
    except TypeError:
        number = at_least - 1
    if isinstance(value, bool) or number < at_least:
        raise ValueError(f"`{name}` must be an integer of at least {at_least}; got {value!r}.")
    return number


def dropout_rate(dropout: float) -> float:
    """The share of units to drop; ValueError unless it is at least 0 and below 1."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"`dropout` is the share of units to drop, at least 0 and below 1; got {dropout!r}.")
    return float(dropout)
