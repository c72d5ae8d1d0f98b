"""How many steps to run in one call."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from .row_buffer import CAPACITY

# In a call of this length Python's part is negligible, and a progress bar still moves smoothly.
SECONDS_A_CALL = 0.2
# The first calls are short, since the time of a step is not known yet.
_GROWTH = 8


class StepsPerCall:
    """Chooses the number of steps in a call so that it takes about `SECONDS_A_CALL`.

    The numbers that training gives do not depend on it.

    Args:
        steps: a fixed number of steps a call instead.
        clock: seconds, increasing; a fake in tests.
        mean_over_workers: the mean of the times that several workers measured. They must run the same
            number of steps in a call, since TensorFlow matches the reductions of their loops by position.

    Attributes:
        steps: how many the next call should run.
    """

    def __init__(
        self,
        steps: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
        mean_over_workers: Callable[[float], float] | None = None,
    ) -> None:
        self._fixed = steps is not None
        self._clock = clock
        self._mean_over_workers = mean_over_workers
        self._calls = 0
        self.steps = steps or 1

    def next_call(self, left: int | None) -> int:
        """Returns how many steps to run next: about `steps`, so that the calls left are of equal length.

        Args:
            left: steps that are still to run; None where that is not known.
        """
        if left is None:
            return self.steps
        if self._fixed:
            return min(self.steps, left)
        calls = max(1, round(left / self.steps))
        return min(math.ceil(left / calls), CAPACITY)

    @contextlib.contextmanager
    def timing(self) -> Iterator[Callable[[int], None]]:
        """Times a call; the body calls the function that it gets with the number of steps that ran."""
        told: list[int] = []
        start = self._clock()
        yield told.append
        seconds, ran = self._clock() - start, sum(told)
        self._calls += 1
        # The first call traces, and in a short one the overhead of a call dominates.
        if self._fixed or 2 * ran < self.steps or self._calls == 1:
            return
        if self._mean_over_workers is not None:
            seconds = self._mean_over_workers(seconds)
        fitting = int(ran * SECONDS_A_CALL / max(seconds, 1e-9))
        self.steps = max(1, min(fitting, ran * _GROWTH, CAPACITY))
