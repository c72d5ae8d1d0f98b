"""Detects plateaus: epochs in which a value does not get better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

from ...optim.common.arguments import real_number, whole_number

# Words in the names of Keras' losses and metrics that tell their mode.
_MIN_WORDS = ("loss", "error", "entropy", "divergence", "perplexity", "hinge", "poisson", "mse", "mae")
_MAX_WORDS = "acc auc precision recall specificity sensitivity iou score r2 simil".split()


class PlateauState(TypedDict):
    """The state of a `Plateau`, as JSON."""

    count: int
    best: float | None
    waited: int  # epochs without a better value


class Plateau:
    """Counts plateaus: `patience` epochs in a row in which a value in the logs did not get better.

    Arguments and errors are those of `Unfreeze`. `count` is the number of plateaus so far.
    """

    def __init__(self, monitor: str, mode: str | None, patience: int, min_delta: float) -> None:
        if mode not in ("min", "max", None):
            raise ValueError(f"`mode` must be 'min', 'max' or None, not {mode!r}.")
        self._monitor = monitor
        self._sign = 1.0 if (mode or _mode_of(monitor)) == "min" else -1.0
        self._patience = whole_number("patience", patience, at_least=1)
        self._min_delta = real_number("min_delta", min_delta, at_least=0)
        self.count = 0
        self._best: float | None = None
        self._waited = 0

    def add(self, logs: Mapping[str, float]) -> None:
        """Counts an epoch by its logs; raises ValueError if they do not hold the value."""
        if self._monitor not in logs:
            raise ValueError(
                f"`monitor` {self._monitor!r} is not in the epoch's logs, which hold {', '.join(logs)}: name "
                "one of them" + (", or give `validation`." if self._monitor.startswith("val_") else ".")
            )
        value = float(logs[self._monitor])
        first = self._best is None and not math.isnan(value)  # nothing compares as better than NaN
        if first or (self._best is not None and self._sign * (self._best - value) > self._min_delta):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self._patience:
            self.count, self._waited = self.count + 1, 0

    def state(self) -> PlateauState:
        """The counts, for `set_state`."""
        return {"count": self.count, "best": self._best, "waited": self._waited}

    def set_state(self, state: PlateauState | None) -> None:
        """Restores the result of `state`, else raises ValueError; None to start counting from 0."""
        values: PlateauState = {"count": 0, "best": None, "waited": 0} if state is None else state
        if not _is_state(values):
            raise ValueError(
                "`state` of a plateau must be what `state()` returned, such as "
                f"{{'count': 1, 'best': 0.5, 'waited': 0}}, not {state!r}."
            )
        self.count, self._waited = values["count"], values["waited"]
        self._best = None if values["best"] is None else float(values["best"])


def _is_state(state: Any) -> bool:
    if not isinstance(state, Mapping) or set(state) != PlateauState.__required_keys__:
        return False
    count, best, waited = state["count"], state["best"], state["waited"]
    if any(isinstance(value, bool) for value in state.values()):
        return False
    if not all(isinstance(number, int) and number >= 0 for number in (count, waited)):
        return False
    return best is None or (isinstance(best, (int, float)) and not math.isnan(best))


def _mode_of(monitor: str) -> str:
    name = monitor.lower()
    falls, rises = (any(word in name for word in words) for words in (_MIN_WORDS, _MAX_WORDS))
    if falls == rises:
        raise ValueError(
            f"`monitor` {monitor!r} does not tell which way is better: say `mode='min'` or `mode='max'`."
        )
    return "min" if falls else "max"
