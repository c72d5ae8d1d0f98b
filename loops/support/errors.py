"""Several things that must all be tried, whatever one of them raises."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

_ARE_PRINTED = sys.version_info >= (3, 11)  # notes, by Python, below the error in a traceback


def call_each(functions: Iterable[Callable[[], object]], error: BaseException | None = None) -> None:
    """Calls all functions, in order; raises the first error of theirs, with the others as its notes.

    If `error` is being handled, which the caller raises again, theirs become notes of that.
    """
    raises = error is None
    for function in functions:
        try:
            function()
        except BaseException as other:  # noqa: B036  # it is raised, or told, when all were tried
            if error is None:
                error = other
            elif other is not error:
                own = [f"Then {type(other).__name__} came as well: {other}", *getattr(other, "__notes__", [])]
                add_note(error, " ".join(own))
    if raises and error is not None:
        raise error


def add_note(error: BaseException, text: str) -> None:
    """What `error.add_note(text)` does, which Python 3.10 lacks. There it is printed at once."""
    notes = getattr(error, "__notes__", [])
    if text not in notes:
        error.__notes__ = [*notes, text]  # type: ignore[attr-defined]  # not in 3.10
        if not _ARE_PRINTED:
            print(f"{type(error).__name__}: {text}", file=sys.stderr)
