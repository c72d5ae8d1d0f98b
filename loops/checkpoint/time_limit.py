"""How long a run may take, as people write it."""

from __future__ import annotations

import datetime
import numbers
import re

from ...optim.common.arguments import real_number
from ...optim.common.messages import short_repr

_TEXT = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+)s)?")
_SECONDS = (86400, 3600, 60, 1)


def seconds_of(limit: object) -> float:
    """The seconds of a `time_limit`.

    Raises:
        TypeError: it is no text, number or `datetime.timedelta`.
        ValueError: a text that says no time, or one that is not above 0.

    Example:
        >>> seconds_of("11h50m"), seconds_of("90s"), seconds_of(1.5)
        (42600.0, 90.0, 1.5)
    """
    if isinstance(limit, str):
        match = _TEXT.fullmatch(limit.strip())
        if match is None or not any(match.groups()):
            raise ValueError(
                f"`time_limit` {limit!r} says no time: write days, hours, minutes and seconds in this order, "
                "as in '11h50m', '1h30m', '45m' or '90s', or pass a number of seconds."
            )
        limit = sum(int(count or 0) * seconds for count, seconds in zip(match.groups(), _SECONDS))
    elif isinstance(limit, datetime.timedelta):
        limit = limit.total_seconds()
    elif isinstance(limit, bool) or not isinstance(limit, numbers.Real):
        raise TypeError(
            "`time_limit` must be a text such as '11h50m', a number of seconds or a `datetime.timedelta`, "
            f"not {short_repr(limit)}."
        )
    return real_number("time_limit", limit, above=0)
