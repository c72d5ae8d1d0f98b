"""When a value stops getting better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

from ...optim.common.arguments import real_number, whole_number

# Words in the names of Keras' losses and metrics that tell which way is better.
_FALLS = ("loss", "error", "entropy", "divergence", "perplexity", "hinge", "poisson", "mse", "mae")
_RISES = ("acc", "auc", "precision", "recall", "specificity", "sensitivity", "iou", "score", "r2", "simil")


class PlateauState(TypedDict):
    """What JSON holds of a `Plateau`."""

    count: int
    best: float | None
    waited: int  # epochs without a better value


class Plateau:
    """Counts the times that a value in the epochs' logs did not get better for some epochs in a row.

    Args are as for `Unfreeze`, which says what it raises. `count` is the number of plateaus so far.
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
        first = self._best is None and not math.isnan(value)  # a NaN would never be bettered
        if first or (self._best is not None and self._sign * (self._best - value) > self._min_delta):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self._patience:
            self.count, self._waited = self.count + 1, 0

    def state(self) -> PlateauState:
        """What was counted, for `set_state`."""
        return {"count": self.count, "best": self._best, "waited": self._waited}

    def set_state(self, state: PlateauState | None) -> None:
        """Resumes from what `state` returned, else raises ValueError; None to begin anew."""
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
    falls, rises = any(word in name for word in _FALLS), any(word in name for word in _RISES)
    if falls == rises:
        raise ValueError(
            f"`monitor` {monitor!r} does not tell which way is better: say `mode='min'` or `mode='max'`."
        )
    return "min" if falls else "max"
