"""Signals that wait while things change that belong together."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from .preempted import Preempted

Handler: TypeAlias = Any  # what `signal.getsignal` returns
Item = TypeVar("Item")

# What asks a program to end: `Ctrl-C`, and what schedulers send before they kill. Not all are on Windows.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
_AT_ONCE = 0.01  # seconds
# Those in force, the innermost last.
_active: list[DeferredSignals] = []


class DeferredSignals:
    """Signals that ask a program to end, `Ctrl-C` first of all, and wait for a moment that suits it.

    Python runs a signal's handler between any two instructions. One that raises, as that of `Ctrl-C` does,
    could leave a batch that has run and is not counted. Where signals are deferred, they wait until the body
    asks for them by `ending`, or ends. While one waits, a second one does at once what it would do otherwise,
    for whoever cannot wait.

    Handlers of the program's own are deferred too, each by itself, and called by `call_own` or at the end.
    Ignored signals stay ignored. Only the main thread is sent signals, so in others nothing is deferred.
    Within another of these, its signals are left to that one, and `ending` asks that one too.

    Args:
        numbers: of the signals.
        ends: the handlers that `ending` takes the place of; None for any. `signal.SIG_DFL` is that of signals
            which nobody handles, and which end the program without a word.
    """

    def __init__(
        self,
        numbers: Collection[int] = ENDING,
        ends: Collection[Handler] | None = (signal.default_int_handler,),
    ) -> None:
        self._numbers = numbers
        self._ends = ends
        self._handlers: dict[int, Handler] = {}
        self._outer: list[DeferredSignals] = []
        self._ending: set[int] = set()  # those of `ends`
        self._waiting: list[int] = []
        self._taken = self._closed = False
        self._process, self._since = os.getpid(), 0.0

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Defers signals in the body; those that still wait at its end do what they would have done.

        If the body raises, its error is the one that comes through: only handlers of the program's own are
        called then.
        """
        here = threading.current_thread() is threading.main_thread()
        if here:
            self._outer = list(_active)
            _active.append(self)
            for number in self._numbers:
                self._install(number)
        try:
            yield
        except BaseException:
            self._taken = True
            raise
        finally:
            if here:
                _active.remove(self)
            self._restore()
            self.call_own()
            while self._waiting and not self._taken:
                self._act(self._waiting.pop(0))

    def ending(self) -> int | None:
        """The signal that asks to end, here or in what is around; None if there is none.

        Whoever gets one sees to it: it does nothing more at the end of this body.
        """
        found = [n for each in (self, *self._outer) for n in each._waiting if n in each._ending]
        self._taken |= bool(found)
        return min(found, key=lambda number: number == signal.SIGINT, default=None)

    def call_own(self) -> None:
        """Calls the handlers of the program's own whose signals wait."""
        for number in [number for number in self._waiting if number not in self._ending]:
            self._waiting.remove(number)
            self._act(number)

    def _install(self, number: int) -> None:
        handler = signal.getsignal(number)
        if handler in (None, signal.SIG_IGN) or any(number in each._handlers for each in self._outer):
            return
        if self._ends is None or handler in self._ends:
            self._ending.add(number)
        elif not callable(handler):
            return
        self._handlers[number] = handler
        signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        alike = self._ending if number in self._ending else {number}
        before = alike.intersection(self._waiting)
        # Another one that came in the same call of the device is no second one.
        second = bool(before) and (number in before or time.monotonic() - self._since > _AT_ONCE)
        # A process that was forked meanwhile, such as one of a pool, has nobody who would ask.
        if second or self._closed or os.getpid() != self._process:
            self._act(number)
            return
        self._waiting.append(number)
        self._since = time.monotonic()
        if self._handlers[number] == signal.SIG_DFL:
            # So that a second one ends the program even while the device runs, or a file is written.
            signal.signal(number, signal.SIG_DFL)

    def _act(self, number: int) -> None:
        handler = self._handlers[number]
        if callable(handler):
            handler(number, None)
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)

    def _restore(self) -> None:
        self._closed = True
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note:  # nobody has set another one since
                with contextlib.suppress(ValueError):  # a generator that another thread closes
                    signal.signal(number, handler)


def ended_by(number: int) -> BaseException:
    """What to raise for a signal that `ending` told."""
    return KeyboardInterrupt() if number == signal.SIGINT else Preempted(number)


def stoppable(items: Iterable[Item]) -> Iterator[Item]:
    """The items; before each, raises what ends the program if it was asked to end.

    For long loops that may be within a run or a `graceful_exit`, where signals wait.
    """
    for item in items:
        if _active and threading.current_thread() is threading.main_thread():
            number = _active[-1].ending()
            if number is not None:
                raise ended_by(number)
        yield item
