"""The `Update` in a `TrainStep`."""

from __future__ import annotations

from typing import Any

from ...optim.private.keras_private import RateOf
from .update import Update


class StepUpdate(Update):
    """An `Update` that is retraced when groups are frozen, and may change the learning rates.

    Args:
        arguments, options: as for `Update`.
        rate_of: maps the learning rate that is set to the one to use; None to use it as it is.
    """

    _retraces = True

    def __init__(self, *arguments: Any, rate_of: RateOf | None = None, **options: Any) -> None:
        self._rate_of = rate_of
        super().__init__(*arguments, **options)
