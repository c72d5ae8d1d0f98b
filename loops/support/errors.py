"""Calling several functions even if some of them raise, and notes on errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

_PYTHON_PRINTS_NOTES = sys.version_info >= (3, 11)


def call_each(functions: Iterable[Callable[[], object]], error: BaseException | None = None) -> None:
    """Calls all functions, in order; raises their first error, with the others as its notes.

    Args:
        error: an error that the caller is handling and will raise again. All errors of the functions become
            notes of it, and nothing is raised here.
    """
    raises = error is None
    for function in functions:
        try:
            function()
        except BaseException as other:  # noqa: B036  # raised, or a note, after all calls
            if error is None:
                error = other
            elif other is not error:
                notes = [
                    f"Then {type(other).__name__} came as well: {other}",
                    *getattr(other, "__notes__", []),
                ]
                add_note(error, " ".join(notes))
    if raises and error is not None:
        raise error


def add_note(error: BaseException, text: str) -> None:
    """Calls `error.add_note(text)` once for each text. Python 3.10 has no notes: it is printed at once."""
    notes = getattr(error, "__notes__", [])
    if text not in notes:
        error.__notes__ = [*notes, text]  # type: ignore[attr-defined]  # not in 3.10
        if not _PYTHON_PRINTS_NOTES:
            print(f"{type(error).__name__}: {text}", file=sys.stderr)
