"""The steps of one watch, and its measurements."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import keras

from ...optim import FilterLike, SelectionError, named_variables, select
from ...optim.common.arguments import whole_number
from ...optim.common.types import Array
from ...optim.filters.select_layers import select_layers
from .meters import Readings
from .watch import Histogram, Measured, Watch

Chosen = TypeVar("Chosen")


class WatchSchedule:
    """Which steps one `Watch` wants, and what it gets of them."""

    def __init__(self, model: keras.Model, watch: Watch) -> None:
        names = {id(variable): name for name, variable in named_variables(model).items()}
        self._units: str | frozenset[str] | None = None
        if watch.variables == "groups":
            self._units = "groups"
        elif watch.variables == "variables":
            self._units = frozenset(names.values())
        elif watch.variables is not None:
            self._units = frozenset(names[id(v)] for v in _chosen("watch", select, model, watch.variables))
        self.histograms: frozenset[str] = frozenset()
        if watch.histograms is not None:
            chosen = _chosen("histograms", select, model, watch.histograms)
            self.histograms = frozenset(names[id(v)] for v in chosen)
        self._scalars = Interval(whole_number("every", watch.every, at_least=1))
        self._histograms = Interval(whole_number("histograms_every", watch.histograms_every, at_least=1))
        self.activations: frozenset[str] = frozenset()
        if watch.activations is not None:
            layers = _chosen("activations", select_layers, model, watch.activations)
            self.activations = frozenset(node.path for node in layers)
        self._active = [self._scalars] if self._units is not None or self.activations else []
        self._active += [self._histograms] if self.histograms else []
        # Must be the same on all workers: it decides which steps are watched, and in which graph.
        intervals = [watch.every, watch.histograms_every, self._units is not None]
        self.key = [*intervals, sorted(self.histograms), sorted(self.activations)]
        self.name = f"{zlib.crc32(repr(self.key).encode()):08x}"  # the same for watches of the same steps
        self._steps = self._skipped = 0  # since the last watched step

    def state(self) -> list[int]:
        return [self._steps, self._skipped, self._scalars.due, self._histograms.due]

    def set_state(self, state: list[int] | None) -> None:
        """Sets the result of `state`; None to begin with the next step."""
        self._steps, self._skipped, self._scalars.due, self._histograms.due = state or [0, 0, 0, 0]

    def start(self, done: int) -> None:
        """Begins after `done` steps, if it has not begun."""
        for interval in self._active:
            interval.start(done)

    def next_step(self, update: int, accumulate: int) -> int:
        """The next step that is watched; `update` and each `accumulate`-th one after it make updates."""
        return min((interval.next_step(update, accumulate) for interval in self._active), default=sys.maxsize)

    def histograms_due(self, number: int) -> bool:
        return bool(self.histograms) and self._histograms.due <= number

    def count(self, rows: Array) -> None:
        """Counts steps, and those of them that were skipped."""
        self._steps += len(rows)
        self._skipped += int((rows[:, 1] < 0).sum())

    def measured(self, number: int, readings: Readings, loss_scale: float | None) -> Measured | None:
        """The measurements of a step that this watch gets; None if the step is not one of its own."""
        if all(number < interval.due for interval in self._active):
            return None
        scalars: dict[str, float] = {}
        if self._scalars in self._active and self._scalars.advance(number):
            for path in self.activations & readings.activations.keys():
                scalars |= readings.activations[path]
            if self._units is not None:
                scalars |= readings.measures.scalars(readings.values, self._units)
                scalars["skipped/all"] = self._skipped / self._steps
                self._steps = self._skipped = 0
                if loss_scale is not None:
                    scalars["loss_scale/all"] = loss_scale
        histograms: dict[str, Histogram] = {}
        if self.histograms and self._histograms.advance(number):
            tags = {f"{what}/{name}" for what in ("weights", "gradients") for name in self.histograms}
            histograms = {t: Histogram(*each) for t, each in readings.histograms.items() if t in tags}
        return Measured(scalars, histograms, readings.time)


class Interval:
    """Multiples of a number of steps; `due` is the next one."""

    def __init__(self, every: int) -> None:
        self._every = every
        self.due = 0

    def start(self, done: int) -> None:
        self.due = self.due or (done // self._every + 1) * self._every

    def next_step(self, update: int, accumulate: int) -> int:
        """The first of `update`, `update + accumulate`, ... that is not before `due`."""
        return update + max(0, -(-(self.due - update) // accumulate)) * accumulate

    def advance(self, number: int) -> bool:
        """Whether a step was due; if so, the next multiple becomes due."""
        was_due = number >= self.due
        if was_due:
            self.due = (number // self._every + 1) * self._every
        return was_due


def _chosen(
    name: str, choose: Callable[..., Sequence[Chosen]], model: keras.Model, filters: FilterLike
) -> Sequence[Chosen]:
    """What the filter in the argument `name` chooses; an error names the argument."""
    try:
        return choose(model, filters)
    except SelectionError as error:
        raise SelectionError(f"`{name}` chooses nothing: {error}") from error
