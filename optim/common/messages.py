"""How text finds variables: substrings, globs and regexes, and what to say when it finds none."""

from __future__ import annotations

from collections.abc import Sequence


def shortened(names: Sequence[str], limit: int = 5) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def brief(value: object) -> str:
    """`repr` on one line of at most 80 characters, for messages."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
