"""What several workers do together when one of them writes checkpoints and all read them.

`mean` is `TrainStep.mean_over_workers`: each worker gets the mean of the numbers that all call it with, so
all must call it, and none goes on before the others do. It is None for one process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Mean: TypeAlias = Callable[[float], float] | None


def same_on_all(number: int, mean: Mean) -> bool:
    """Whether all workers pass the same number; each gets the same answer."""
    if mean is None:
        return True
    own = float(number % 4096)  # float32 holds this exactly, and its differences from a mean
    return mean(abs(own - mean(own))) < 1e-3


def raise_on_all(error: Exception | None, mean: Mean, for_others: str) -> None:
    """Raises a worker's error; if any worker passes one, the others raise an OSError.

    Args:
        error: this worker's; None for none.
        mean: see above.
        for_others: message for those that have no error of their own.
    """
    failed = error is not None if mean is None else mean(float(error is not None)) > 0
    if failed:
        raise error or OSError(for_others)
