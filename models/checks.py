"""Checks of the numbers that several networks take."""

from __future__ import annotations

import operator


def class_count(num_classes: int) -> int:
    """The number of classes; ValueError unless it is an integer of at least 2."""
    try:
        count = operator.index(num_classes)
    except TypeError:
        count = 0
    if isinstance(num_classes, bool) or count < 2:
        raise ValueError(f"`num_classes` must be an integer of at least 2; got {num_classes!r}.")
    return count


def dropout_rate(dropout: float) -> float:
    """The share of units to drop; ValueError unless it is at least 0 and below 1."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"`dropout` is the share of units to drop, at least 0 and below 1; got {dropout!r}.")
    return float(dropout)
