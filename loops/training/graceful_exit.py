"""`graceful_exit`: loops of one's own that save before a signal ends them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Collection, Iterator

import tensorflow as tf

from ...optim.common.signals import ENDING, DeferredSignals
from ..distribute.sharding import mean_over_workers_of


@contextlib.contextmanager
def graceful_exit(
    *, signals: Collection[int] = ENDING, strategy: tf.distribute.Strategy | None = None
) -> Iterator[Callable[[], bool]]:
    """Delays signals that would end the program until its loop asks for them.

    In the block, SIGTERM, SIGUSR1 and `Ctrl-C` only make `wanted()` return True from then on. The loop
    decides what happens then: it saves, and ends. To `raise loops.Preempted` ends the program with the exit
    status by which schedulers start it again; after a `break`, it goes on behind the block. A signal that the
    loop has not asked for does what it would have done, when the block ends; and a second signal does that at
    once, for whoever cannot wait.

    Handlers are put back at the end of the block, but for one that somebody else has set meanwhile. Ignored
    signals stay ignored. Within a `train`, in one of its callbacks, `wanted()` tells of the signals that the
    run waits for; and a `train` in the block ends by them as it does by itself: with a checkpoint it saves,
    and raises `Preempted`, and without one it returns, and `wanted()` is True. `lr_range_test` and
    `models.cache_frozen` end between two batches, by `Preempted` or KeyboardInterrupt.
    Outside of the main thread, which Python sends signals to, nothing is installed.

    Args:
        signals: numbers of the signals, such as `signal.SIGTERM`.
        strategy: one with several workers, where perhaps not every worker gets the signal: `wanted()` is then
            True for all of them in the same call. All must call it equally often: each waits for the others.
            None for a process that decides alone.

    Yields:
        `wanted`, a function without arguments: whether one of the signals has come. It takes a microsecond.

    Raises:
        TypeError: `signals` is no collection, or `strategy` no strategy.
        ValueError: it holds one that no program can handle.

    Example:
        >>> import signal
        >>> from gradloop import loops
        >>> done = 0
        >>> with loops.graceful_exit() as wanted:
        ...     for batch in range(100):
        ...         done += 1  # step.run(iterator, 10)
        ...         if batch == 2:
        ...             signal.raise_signal(signal.SIGTERM)  # from outside
        ...         if wanted():
        ...             break  # checkpoint.save(step, iterator); raise loops.Preempted
        >>> done
        3
    """
    if strategy is not None and not isinstance(strategy, tf.distribute.Strategy):
        raise TypeError(
            f"`strategy` must be one, such as `loops.strategy('multiworker')`, or None, got {strategy!r}."
        )
    mean, came = mean_over_workers_of(strategy), False
    deferred = DeferredSignals(_checked(signals), ends=None)

    def wanted() -> bool:
        nonlocal came
        if not came:
            came = deferred.ending() is not None
            if mean is not None:
                came = mean(float(came)) > 0
        return came

    with deferred.deferred():
        yield wanted


_NEVER = [getattr(signal, name) for name in ("SIGKILL", "SIGSTOP") if hasattr(signal, name)]


def _checked(signals: object) -> list[int]:
    way_out = "pass numbers such as `[signal.SIGTERM, signal.SIGUSR1]`."
    if not isinstance(signals, Collection) or isinstance(signals, str):
        raise TypeError(f"`signals` must be a list of signals, got {signals!r}: {way_out}")
    for number in signals:
        if number not in signal.valid_signals() or number in _NEVER:
            raise ValueError(
                f"`signals` holds {number!r}, which is no signal that a program can handle: {way_out}"
            )
    return list(signals)
