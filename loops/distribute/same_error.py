"""An error of one of several workers ends what all of them do together."""

from __future__ import annotations

from .same_order import Mean


def raise_on_all(error: Exception | None, mean: Mean, for_others: str) -> None:
    """Raises a worker's error; if any worker passes one, those that have none raise `OSError(for_others)`."""
    if any_worker_failed(error, mean):
        raise error or OSError(for_others)


def any_worker_failed(error: Exception | None, mean: Mean) -> bool:
    """Whether any worker passes an error; each gets the same answer."""
    return error is not None if mean is None else mean(float(error is not None)) > 0
