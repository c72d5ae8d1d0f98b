"""Ending a run early: by a signal, or at its time limit."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from ...optim.common.preempted import Preempted
from ...optim.common.signals import ENDING, DeferredSignals
from ..checkpoint.checkpoint import Checkpoint
from ..device.steps_per_call import SECONDS_A_CALL
from ..distribute.cluster import is_chief
from ..distribute.same_order import Mean
from .progress import RunProgress

_TIME = 0  # no signal has this number


class RunEnding:
    """Decides whether a run ends early. Call `check` where all that belongs to its steps is done.

    Workers that save a run ask each other, since only some may have been sent a signal, and none may go on
    alone. For that each waits for the others, about as often as a call of the device that runs many steps
    ends, however often `check` is called.

    Args:
        checkpoint: that of the run. None to leave signals to what they do without, `Ctrl-C` aside.
        mean: that of the workers.
        clock: seconds, increasing; a fake in tests.

    Attributes:
        signals: defers those that end the run.
        agreed: whether it was ended here, by all workers at the same step.
    """

    def __init__(
        self, checkpoint: Checkpoint | None, mean: Mean, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._saves = checkpoint is not None
        # Those that nobody handles end the program, so a run that can be saved takes their place.
        unhandled = [signal.SIG_DFL] if self._saves else []
        self.signals = DeferredSignals(ends=(signal.default_int_handler, *unhandled))
        self.agreed = False
        self._mean = mean if self._saves else None
        self._clock = clock
        self._last = clock()
        limit = None if checkpoint is None else checkpoint.time_limit
        self._until = None if limit is None else self._last + limit
        self._calls, self._every = 0, 1  # since the workers asked each other, and until they do

    def check(self) -> None:
        """Calls the program's own signal handlers, and ends the run if that was requested."""
        self.signals.call_own()
        self._calls += 1
        if self._mean is None or self._calls >= self._every:
            self.end(self.requested())

    def requested(self) -> int | None:
        """The reason to end the run, the same for all workers; None if there is none."""
        own = self.signals.ending()
        if own is None and self._until is not None and self._clock() >= self._until:
            own = _TIME
        mean = self._mean
        if mean is None:
            return own
        now = self._clock()
        # One number tells both, as each waits for the others: at most a second of time, and who is to end.
        seconds = mean(min(now - self._last, 1.0) + (0.0 if own is None else 1e6))
        self._last, calls, self._calls = now, max(self._calls, 1), 0
        self._every = max(1, min(int(calls * SECONDS_A_CALL / max(seconds, 1e-6)), 8 * calls))
        if seconds <= 2.0:
            return None
        reasons = (reason for reason in (*ENDING, _TIME) if mean(float(own == reason)) > 0)
        return next(reasons, int(signal.SIGTERM))

    def end(self, reason: int | None) -> None:
        """Raises the exception that ends the run for a reason of `requested`."""
        if reason is None:
            return
        self.agreed = True
        if reason == signal.SIGINT or not self._saves:
            raise KeyboardInterrupt
        raise Preempted(reason or None)

    def close(self, ended: BaseException | None) -> None:
        """Ends the program, now that the run is closed, if it was asked to; `ended` is what ended the run."""
        if isinstance(ended, SystemExit):
            self.signals.ending()  # one that came since has nothing more to do
            raise ended
        if ended is None and self._saves:
            self.end(self.signals.ending())


@contextlib.contextmanager
def report_preemption(progress: RunProgress, newest: Callable[[], str | None]) -> Iterator[None]:
    """Adds to a `Preempted` of the body where the run is saved, and prints it."""
    try:
        yield
    except Preempted as end:
        end.step, end.epoch, end.checkpoint = progress.done, progress.epoch, newest()
        if is_chief():
            tqdm.write(str(end), file=sys.stderr)
        raise
