"""What error messages are made of: lists and values cut short, and the name that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def first_few(names: Sequence[str], limit: int = 5) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def short_repr(value: object) -> str:
    """`repr` on one line of at most 80 characters, for messages."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def did_you_mean(value: object, options: Iterable[str], most: int = 1) -> str:
    """` Did you mean 'adam'?`, of the options that resemble `value` whatever the case; '' if none does.

    It names at most `most` of them, the closest first.

    Example:
        >>> did_you_mean("cnov", ["Conv", "fc"])
        " Did you mean 'Conv'?"
    """
    by_lower: dict[str, str] = {}
    for option in options:
        by_lower.setdefault(option.lower(), option)
    near = difflib.get_close_matches(str(value).lower(), list(by_lower), n=most, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(by_lower[name]) for name in near)}?" if near else ""
