"""A thread for one function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


def beside(function: Callable[Given, Found], *given: Given.args, **named: Given.kwargs) -> Future[Found]:
    """Runs a function in a thread of its own. The result waits for it, and raises what it raised.

    A program that ends waits for it too. An executor would do the same, but takes nothing more by then, even
    from a thread that is still at work. Where no thread can be started, it runs before this returns: some
    Python 3.12 start none in a program that ends, and a process may have as many as it is allowed.

    Example:
        >>> from gradloop.loops.support.beside import beside
        >>> beside(pow, 2, 3).result()
        8
    """
    found: Future[Found] = Future()

    def run() -> None:
        try:
            found.set_result(function(*given, **named))
        except BaseException as error:  # noqa: B036  # whoever asks for the result gets it
            found.set_exception(error)

    try:
        threading.Thread(target=run, name="gradloop").start()
    except RuntimeError:
        run()
    return found
