"""Which steps of a run are watched, and what callbacks are told of them."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ...optim.common.messages import first_few
from ...optim.common.types import Array
from ..distribute.same_order import Mean, same_on_all
from ..update.loss_scale import LossScale
from .meters import Meters, Wanted
from .watch import Measured, Watch
from .watch_schedule import WatchSchedule

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
        self._schedules: list[WatchSchedule] = []
        self._restored: dict[str, list[int]] = {}  # for the next `start`
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
        restored = self._restored
        self.stop()
        schedules = [WatchSchedule(self._model, watch) for watch in watches]
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
            self.set_state(restored)

    def stop(self) -> None:
        """Watches no further step."""
        self._schedules, self._restored, self.wanted = [], {}, None

    def state(self) -> dict[str, list[int]]:
        """Where each watch stands, as JSON can hold it."""
        return {schedule.name: schedule.state() for schedule in self._schedules}

    def set_state(self, state: dict[str, list[int]]) -> None:
        """Takes what `state` gave, now or when the watches start; new ones begin with the next step."""
        for schedule in self._schedules:
            schedule.set_state(state.get(schedule.name))
        self._restored = {} if self._schedules else state

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
