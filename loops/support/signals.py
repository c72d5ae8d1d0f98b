"""Signals that wait while things change that belong together."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class DeferredSignals:
    """Signals of a program, `Ctrl-C` first of all, that wait for a moment that suits them.

    Python runs a signal's handler between any two instructions. One that raises, as that of `Ctrl-C` does,
    could leave a batch that has run and is not counted. Where it is deferred, it waits until `deliver` is
    called. A second signal of the same kind does not wait, for whoever cannot.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, signal._HANDLER] = {}
        self._seen: set[int] = set()
        self._waiting: list[int] = []

    @property
    def any_waits(self) -> bool:
        """Whether `deliver` would call a handler."""
        return bool(self._waiting)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Defers signals in the body; those that still wait at its end are delivered.

        If the body raises, its error is the one that comes through: a `KeyboardInterrupt` that waits is
        dropped. Only the main thread is sent signals, and within another of these nothing changes.
        """
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                # What is no Python function raises nothing.
                if callable(handler) and not isinstance(getattr(handler, "__self__", None), DeferredSignals):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        try:
            yield
        except BaseException:
            self._restore()
            if signal.SIGINT in self._waiting and self._handlers[signal.SIGINT] is signal.default_int_handler:
                self._waiting.remove(signal.SIGINT)
            self.deliver()
            raise
        self._restore()
        self.deliver()

    def deliver(self) -> None:
        """Calls the handlers of the signals that wait."""
        while self._waiting:
            self._call(self._waiting.pop(0))

    def _note(self, number: int, frame: object) -> None:
        if number in self._seen:
            self._call(number)
        else:
            self._seen.add(number)
            self._waiting.append(number)

    def _call(self, number: int) -> None:
        handler = self._handlers[number]
        assert callable(handler)
        handler(number, None)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note:  # nobody has set another one since
                signal.signal(number, handler)
