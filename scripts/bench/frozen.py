"""Times training the end of a frozen network: with `models.cache_frozen`, without a cache, and by `fit`.

The cases and the wanted figures; `frozen_contenders` is the process that measures.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import child
from .figures import ratio, verdict, wanted_text
from .frozen_contenders import OPTIMIZERS, Settings
from shared.tables import table

CASES = ("head only", "top block", "write", "peak memory")


class Wanted(NamedTuple):
    """The wanted ratio of two contenders of a case; None if the ratio is only shown."""

    case: str
    over: str
    under: str
    value: float | None
    at_most: bool = False


WANTED = (
    Wanted("head only", "fit", "cached", 50.0),
    Wanted("head only", "fit", "no cache", 1.0),
    Wanted("top block", "fit", "cached", 3.0),
    Wanted("top block", "fit", "no cache", 1.0),
    # Compared as a user waits for them: `cache_frozen` traces in every call, as does the first `predict`.
    Wanted("write", "in memory", "predict", 1.1, at_most=True),
    Wanted("write", "in files", "predict", 1.1, at_most=True),
    # Compared with a `predict` that was traced before: the difference is the trace.
    Wanted("write", "in memory", "predict again", None),
    Wanted("write", "in files", "predict again", None),
    Wanted("peak memory", "step with SGD", "inference", 1.1, at_most=True),
    Wanted("peak memory", "step with Adam for the head", "inference", 1.1, at_most=True),
    # Two slots for each frozen weight, so that it may train later: the user's choice.
    Wanted("peak memory", "step with Adam", "inference", None),
)


USUAL = Settings()


@dataclasses.dataclass
class Case:
    """The measurements of one case."""

    name: str  # of `CASES`
    # By contender, one value a round: seconds of an epoch or of a pass over the data, or MB (10^6 bytes) that
    # a process held more at its peak than with model and data alone.
    values: dict[str, list[float]]


def cases(python: str, rounds: int) -> Iterator[Case]:
    """Runs all cases, one after another."""
    return (measure(python, case, rounds) for case in CASES)


def measure(python: str, case: str, rounds: int, settings: Settings = USUAL) -> Case:
    """Runs one case, in fresh processes; see `child.answer` for what it raises."""
    if case != "peak memory":
        return Case(case, _values(python, case, rounds, settings))
    values: dict[str, list[float]] = {name: [] for name in OPTIMIZERS}
    for _ in range(rounds):
        for name, megabytes in values.items():
            megabytes += _values(python, name, 1, settings)[name]
    return Case(case, values)


def report(cases: Sequence[Case], settings: Settings = USUAL) -> str:
    """The table of the cases, and the wanted figures."""
    by_name = {case.name: case.values for case in cases}
    rows = []
    for case, over, under, value, at_most in WANTED:
        if case not in by_name:
            continue
        values = by_name[case]
        times = round(ratio(values[over], values[under]), 2)
        result = ["", ""]
        if value is not None:
            result = [wanted_text(value, at_most), verdict(times, value, at_most=at_most)]
        medians = [f"{statistics.median(values[name]):.4g}" for name in (over, under)]
        rows.append([case, f"{over} / {under}", *medians, f"{times:.2f}", *result])
    rounds = min(len(values) for case in cases for values in case.values.values())
    title = (
        f"frozen networks, {settings.side}x{settings.side}, batch {settings.batch_size} ({rounds} rounds): "
        "MobileNetV2, seconds of an epoch or of writing a cache; VGG16, MB at the peak"
    )
    return f"{title}\n{table(['case', 'of', '', 'and', 'ratio', 'wanted', 'result'], rows)}"


def _values(python: str, case: str, rounds: int, settings: Settings) -> dict[str, list[float]]:
    options = (case, str(rounds), json.dumps(dataclasses.asdict(settings)))
    return dict(child.answer(child.start(python, "-m", "bench.frozen_contenders", *options)))
