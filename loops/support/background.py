"""Running a function in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


def in_background(
    function: Callable[Given, Found], *given: Given.args, **named: Given.kwargs
) -> Future[Found]:
    """Starts a function in a thread. `.result()` waits for it, and raises what it raised.

    The interpreter waits for the thread before it exits. An executor would, too, but by then it accepts no
    further work, even from its own threads. Where no thread can be started, the function runs before this
    returns: some versions of Python 3.12 start no thread at exit, and a process may have too many.

    Example:
        >>> from gradloop.loops.support.background import in_background
        >>> in_background(pow, 2, 3).result()
        8
    """
    found: Future[Found] = Future()

    def run() -> None:
        try:
            found.set_result(function(*given, **named))
        except BaseException as error:  # noqa: B036  # `.result()` raises it
            found.set_exception(error)

    try:
        threading.Thread(target=run, name="gradloop").start()
    except RuntimeError:
        run()
    return found
