"""What optimizers are set to, which may change after they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ..private.optimizer_copies import settings_of


class Settings:
    """Tells whether an attribute of some optimizers was set to something else.

    Keras reads attributes (`weight_decay`, `clipnorm`, what `exclude_from_weight_decay` keeps) whenever
    `apply` runs or is traced; what was worked out from them before is out of date then.
    """

    def __init__(self, optimizers: Sequence[keras.optimizers.Optimizer]) -> None:
        self._optimizers = list(optimizers)
        self._seen: list[Mapping[str, Any]] = []
        self._known: list[Mapping[str, Any]] = []

    def changed(self) -> bool:
        """Whether anything was set since the last call; true for the first one."""
        # This is asked before every step, and so answered by a comparison of dicts, the quickest there is.
        if self._known and all(map(_equal, self._seen, map(vars, self._optimizers))):
            return False
        self._seen = [dict(vars(optimizer)) for optimizer in self._optimizers]
        known, self._known = self._known, [settings_of(optimizer) for optimizer in self._optimizers]
        return not (known and all(map(_same, known, self._known)))


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether all values are the same objects, or equal."""
    try:
        return one == other
    except Exception:  # two arrays have no one answer
        return False


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if len(one) != len(other):
        return False
    try:
        return all(value is other[name] for name, value in one.items())
    except KeyError:
        return False
