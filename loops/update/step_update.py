"""The update in a `TrainStep`."""

from __future__ import annotations

from typing import Any

from ...optim.private.keras_private import RateOf
from .update import Update


class StepUpdate(Update):
    """Retraces when other groups are frozen, so they leave the graph; may train at other rates than are set.

    Args:
        given, options: as for `Update`.
        rate_of: gives the rate of an update, of the one that is set; None for that one.
    """

    _retraces = True

    def __init__(self, *given: Any, rate_of: RateOf | None = None, **options: Any) -> None:
        self._rate_of = rate_of
        super().__init__(*given, **options)
