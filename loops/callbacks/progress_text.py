"""The progress of an epoch as one line of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tqdm import tqdm

_SMALLEST_BAR = 6  # columns


class Progress(NamedTuple):
    """The progress of an epoch or of its validation."""

    label: str
    done: int  # steps so far
    total: int | None  # steps in the epoch; None if not known
    seconds: float  # since the epoch began
    rate: float | None  # steps per second; None if not known
    values: dict[str, float]  # name -> mean so far
    ended: bool = False  # whether it has ended


def details(progress: Progress) -> str:
    """All details beside the label, in full length.

    Example:
        >>> values = {"val_loss": 0.7, "loss": 0.5}
        >>> details(Progress("Epoch 2/15", 1200, 1200, 61.0, 0.05, values, ended=True))
        '1200/1200 [01:01, 20 s/step] loss=0.5000 val_loss=0.7000'
    """
    left = "" if progress.ended or progress.total is None else _left(progress)
    clock = tqdm.format_interval(progress.seconds) + left + _rate(progress, ", ", " steps/s")
    return f"{_count(progress)} [{clock}]{_formatted(progress.values)}"


def whole_line(progress: Progress) -> str:
    """The label and the details."""
    return f"{progress.label}: {details(progress)}"


def fitting_line(progress: Progress, columns: int) -> str:
    """A line that fits into `columns`, as tqdm's `bar_format`, in which `{bar}` fills the rest.

    In fewer columns, parts are left out: first the elapsed time, then the bar, the count and the rate, and
    finally values from the end.

    Example:
        >>> epoch = Progress("Epoch 2/15", 750, 1200, 1.0, 743.2, {"loss": 0.5123, "accuracy": 0.7512})
        >>> for columns in (90, 80, 70, 50, 40):
        ...     print(fitting_line(epoch, columns))
        Epoch 2/15:  62%|{bar}| 750/1200 [00:01<00:00, 743/s] loss=0.5123 accuracy=0.7512
        Epoch 2/15:  62%|{bar}| 750/1200 [<00:00, 743/s] loss=0.5123 accuracy=0.7512
        Epoch 2/15:  62% 750/1200 [<00:00, 743/s] loss=0.5123 accuracy=0.7512
        Epoch 2/15:  62% loss=0.5123 accuracy=0.7512
        Epoch 2/15:  62% loss=0.5123 ...
    """
    values, text = _formatted(progress.values), ""
    for text in _shrinking_lines(progress):
        if len(text.replace("{bar}", "-" * _SMALLEST_BAR)) + len(values) <= columns:
            return text + _escaped(values)
    room = max(columns - len(text) - len(" ..."), 0)
    return text + _escaped(values[: room + 1].rpartition(" ")[0]) + " ..."  # without cutting a value


def _shrinking_lines(progress: Progress) -> Iterator[str]:
    """Yields the line without its values, each time in fewer columns."""
    head = _escaped(progress.label)
    if progress.total is None:
        head += f": {_count(progress)}"
        yield f"{head} [{tqdm.format_interval(progress.seconds)}{_rate(progress, ', ', '/s')}]"
        yield head
        return
    head += f": {100 * min(progress.done / max(progress.total, 1), 1):3.0f}%"
    narrow = _left(progress) + _rate(progress, ", ", "/s")
    yield f"{head}|{{bar}}| {_count(progress)} [{tqdm.format_interval(progress.seconds)}{narrow}]"
    yield f"{head}|{{bar}}| {_count(progress)} [{narrow}]"
    yield f"{head} {_count(progress)} [{narrow}]"
    yield f"{head} [{narrow}]"
    yield f"{head} [{_left(progress)}]"
    yield head


def _count(progress: Progress) -> str:
    return f"{progress.done} steps" if progress.total is None else f"{progress.done}/{progress.total}"


def _left(progress: Progress) -> str:
    """The time to go."""
    if not progress.rate or progress.total is None:
        return "<?"
    return f"<{tqdm.format_interval((progress.total - progress.done) / progress.rate)}"


def _rate(progress: Progress, before: str, unit: str) -> str:
    rate = progress.rate
    if not rate:
        return ""
    if rate < 1:
        return f"{before}{1 / rate:.3g} s/step"
    return before + (f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}") + unit


def _formatted(values: dict[str, float]) -> str:
    """Names and values, each after a space: training before validation, and the loss first in each."""

    def order(name: str) -> tuple[bool, bool]:
        return name.startswith("val_"), name.removeprefix("val_") != "loss"

    return "".join(f" {name}={_digits(values[name])}" for name in sorted(values, key=order))


def _digits(value: float) -> str:
    """Four significant digits, trailing zeros included: a line whose length changes is hard to read."""
    try:
        return f"{value:#.4g}".rstrip(".")
    except (TypeError, ValueError):  # callbacks may put anything into logs
        return " ".join(str(value).split())


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
