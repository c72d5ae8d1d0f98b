"""Which steps of a run are watched, and what callbacks are told of them."""

from __future__ import annotations

import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import keras
import tensorflow as tf

from ...optim import FilterLike, SelectionError, named_variables, select
from ...optim.common.arguments import whole_number
from ...optim.common.messages import first_few
from ...optim.common.types import Array
from ...optim.filters.select_layers import select_layers
from ..distribute.same_order import Mean, same_on_all
from ..update.loss_scale import LossScale
from .meters import Found, Meters, Wanted
from .watch import Histogram, Measured, Watch

Chosen = TypeVar("Chosen")
# What each watch is told of one step; None where it is none of its steps.
ToldEach = list[Measured | None]


class Watching:
    """Decides which steps are watched, and puts together what was measured in them.

        start(watches)
        until the run ends:
            steps = next_alike(steps, ...)      # one that is watched, or those up to the next that is
            run them, a watched one in a graph of its own
            measured(rows, ...)
        stop()

    A watched step is the first one, from a multiple of `every` on, that makes an update.

    Args:
        model: whose variables filters choose from.
        optimizer: with the loss scale around it, if there is one.
        accumulate: batches that make one update.

    Attributes:
        wanted: what the steps that run next measure; None for nothing.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, accumulate: int) -> None:
        self._model = model
        self._scale = LossScale(optimizer)
        self._accumulate = accumulate
        self._schedules: list[_Schedule] = []
        self._number = 0  # of the step that runs next
        self._loss_scale: float | None = None
        self._told = False  # of layers that cannot be measured
        self.wanted: Wanted | None = None

    def start(self, watches: Sequence[Watch], mean: Mean, asynchronous: bool) -> None:
        """Begins to watch.

        Args:
            watches: what callbacks want.
            mean: over workers, that of the step.
            asynchronous: whether workers run steps independently of each other, which are not measured.

        Raises:
            TypeError, ValueError: an interval that is no whole number of at least 1.
            SelectionError: a filter that matches nothing.
        """
        self.stop()
        schedules = [_Schedule(self._model, watch) for watch in watches]
        agreed = same_on_all(zlib.crc32(repr([each.key for each in schedules]).encode()), mean)
        why = ""
        if not agreed:
            why = (
                "the callbacks of the workers want different steps watched, which would have them wait for "
                "each other for ever: give each worker the same callbacks (only the chief's write files)"
            )
        elif asynchronous and schedules:
            why = (
                "parameter servers have no step of which norms could be: workers update the weights "
                "independently. Leave it out, `watch=None`, or use another strategy"
            )
        if why:
            warnings.warn(f"No step is watched, as {why}.", stacklevel=2)
        else:
            self._schedules = schedules

    def stop(self) -> None:
        """Watches no further step."""
        self._schedules, self.wanted = [], None

    def next_alike(self, steps: int, done: Callable[[], int], waiting: Callable[[], int]) -> int:
        """How many of the next `steps` are to run in one call; sets `wanted`.

        Args:
            done: how many steps there were.
            waiting: how many of them wait for an update.
        """
        self.wanted = None
        if not self._schedules:
            return steps
        ran, waited = done(), waiting()
        self._number, update = ran + 1, ran + self._accumulate - waited
        for schedule in self._schedules:
            schedule.start(ran - waited)
        watched = min(schedule.next_step(update, self._accumulate) for schedule in self._schedules)
        if watched > self._number:
            return min(steps, watched - self._number)
        # For norms and histograms there are two graphs, whatever was asked for.
        histograms = [each.histograms for each in self._schedules if each.histograms_due(self._number)]
        activations = [each.activations for each in self._schedules]
        self.wanted = Wanted(*(tuple(sorted(set().union(*each))) for each in (histograms, activations)))
        if self._scale.is_there:
            self._loss_scale = float(self._scale.scaled(tf.constant(1.0)))
        return 1

    def measured(self, rows: Array, meters: Meters | None) -> list[ToldEach]:
        """What each watch is told of the steps that ran: at most one, as a watched one runs alone.

        Args:
            rows: what they recorded.
            meters: of the step, if it was watched.
        """
        for schedule in self._schedules:
            schedule.count(rows)
        if meters is None or not len(rows):
            return []
        found = meters.read()
        if meters.activations is not None and not self._told:
            self._told = _tell(meters.activations.missing())
        if self._accumulate > 1 and not found.taken:
            return []  # a step was skipped meanwhile, and so the update comes later
        return [[each.measured(self._number, found, self._loss_scale) for each in self._schedules]]


def _tell(missing: list[str]) -> bool:
    """Warns of layers that cannot be measured; returns whether there are any."""
    if missing:
        warnings.warn(
            f"`activations` chose layers that give nothing to measure in a step: {first_few(missing)}. "
            "They are not called, run inside of another layer's loop (the cell of an RNN), or give no "
            "floating numbers: choose the layer around them",
            stacklevel=2,
        )
    return bool(missing)


def _chosen(
    name: str, choose: Callable[..., Sequence[Chosen]], model: keras.Model, filters: FilterLike
) -> Sequence[Chosen]:
    """What a filter chooses, the argument of this name; an error tells which it was."""
    try:
        return choose(model, filters)
    except SelectionError as error:
        raise SelectionError(f"`{name}` chooses nothing: {error}") from error


class _Schedule:
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
        self._scalars = _Every(whole_number("every", watch.every, at_least=1))
        self._histograms = _Every(whole_number("histograms_every", watch.histograms_every, at_least=1))
        self.activations: frozenset[str] = frozenset()
        if watch.activations is not None:
            layers = _chosen("activations", select_layers, model, watch.activations)
            self.activations = frozenset(node.path for node in layers)
        self._asked = [self._scalars] if self._of is not None or self.activations else []
        self._asked += [self._histograms] if self.histograms else []
        # What all workers must agree on.
        self.key = [watch.every, watch.histograms_every, sorted(self.histograms), sorted(self.activations)]
        self._steps = self._skipped = 0  # since the last that was watched

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


class _Every:
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
