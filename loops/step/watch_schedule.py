"""The steps of one watch, and what it is told of them."""

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
from .meters import Found
from .watch import Histogram, Measured, Watch

Chosen = TypeVar("Chosen")


class WatchSchedule:
    """The steps of one watch, and what it is told of them."""

    def __init__(self, model: keras.Model, watch: Watch) -> None:
        names = {id(variable): name for name, variable in named_variables(model).items()}
        self._of: str | frozenset[str] | None = None
        if watch.variables == "groups":
            self._of = "groups"
        elif watch.variables == "variables":
            self._of = frozenset(names.values())
        elif watch.variables is not None:
            self._of = frozenset(names[id(v)] for v in _chosen("watch", select, model, watch.variables))
        self.histograms: frozenset[str] = frozenset()
        if watch.histograms is not None:
            chosen = _chosen("histograms", select, model, watch.histograms)
            self.histograms = frozenset(names[id(v)] for v in chosen)
        self._scalars = Every(whole_number("every", watch.every, at_least=1))
        self._histograms = Every(whole_number("histograms_every", watch.histograms_every, at_least=1))
        self.activations: frozenset[str] = frozenset()
        if watch.activations is not None:
            layers = _chosen("activations", select_layers, model, watch.activations)
            self.activations = frozenset(node.path for node in layers)
        self._asked = [self._scalars] if self._of is not None or self.activations else []
        self._asked += [self._histograms] if self.histograms else []
        # What all workers must agree on: it decides which steps are watched, and in which graph.
        intervals = [watch.every, watch.histograms_every, self._of is not None]
        self.key = [*intervals, sorted(self.histograms), sorted(self.activations)]
        self.name = f"{zlib.crc32(repr(self.key).encode()):08x}"  # of those with the same steps, the same
        self._steps = self._skipped = 0  # since the last that was watched

    def state(self) -> list[int]:
        return [self._steps, self._skipped, self._scalars.due, self._histograms.due]

    def set_state(self, state: list[int] | None) -> None:
        """Takes what `state` gave; None to begin with the next step."""
        self._steps, self._skipped, self._scalars.due, self._histograms.due = state or [0, 0, 0, 0]

    def start(self, done: int) -> None:
        """Begins after so many steps, if it has not begun."""
        for each in self._asked:
            each.start(done)

    def next_step(self, update: int, accumulate: int) -> int:
        """The next step that is watched; `update` and each `accumulate`-th one after it make updates."""
        return min((each.next_step(update, accumulate) for each in self._asked), default=sys.maxsize)

    def histograms_due(self, number: int) -> bool:
        return bool(self.histograms) and self._histograms.due <= number

    def count(self, rows: Array) -> None:
        """Counts steps and, of these, those that were skipped."""
        self._steps += len(rows)
        self._skipped += int((rows[:, 1] < 0).sum())

    def measured(self, number: int, found: Found, loss_scale: float | None) -> Measured | None:
        """What it is told of a step; None if that is none of its own."""
        if all(number < each.due for each in self._asked):
            return None
        scalars: dict[str, float] = {}
        if self._scalars in self._asked and self._scalars.passes(number):
            for path in self.activations & found.activations.keys():
                scalars |= found.activations[path]
            if self._of is not None:
                scalars |= found.measures.scalars(found.values, self._of)
                scalars["skipped/all"] = self._skipped / self._steps
                self._steps = self._skipped = 0
                if loss_scale is not None:
                    scalars["loss_scale/all"] = loss_scale
        histograms: dict[str, Histogram] = {}
        if self.histograms and self._histograms.passes(number):
            tags = {f"{what}/{name}" for what in ("weights", "gradients") for name in self.histograms}
            histograms = {t: Histogram(*each) for t, each in found.histograms.items() if t in tags}
        return Measured(scalars, histograms, found.time)


class Every:
    """Multiples of a number of steps; `due` is the next of them."""

    def __init__(self, every: int) -> None:
        self._every = every
        self.due = 0

    def start(self, done: int) -> None:
        self.due = self.due or (done // self._every + 1) * self._every

    def next_step(self, update: int, accumulate: int) -> int:
        """The first of `update`, `update + accumulate`, ... that is not before `due`."""
        return update + max(0, -(-(self.due - update) // accumulate)) * accumulate

    def passes(self, number: int) -> bool:
        """Whether a step is the one that was due; the next multiple is due then."""
        passes = number >= self.due
        if passes:
            self.due = (number // self._every + 1) * self._every
        return passes


def _chosen(
    name: str, choose: Callable[..., Sequence[Chosen]], model: keras.Model, filters: FilterLike
) -> Sequence[Chosen]:
    """What a filter chooses, the argument of this name; an error tells which it was."""
    try:
        return choose(model, filters)
    except SelectionError as error:
        raise SelectionError(f"`{name}` chooses nothing: {error}") from error
