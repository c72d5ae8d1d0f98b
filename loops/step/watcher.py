"""Decides which steps of a run are watched, and gives callbacks their measurements."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ...optim.common.messages import first_few
from ...optim.common.types import Array
from ..distribute.same_order import Mean, same_on_all_workers
from ..update.loss_scale import LossScale
from .meters import MeasureRequest, Meters
from .watch import Measured, Watch
from .watch_schedule import WatchSchedule

# The measurements of one step for each watch; None for a watch that does not want this step.
PerWatch = list[Measured | None]


class Watcher:
    """Decides which steps are watched, and collects what was measured in them.

        start(watches)
        until the run ends:
            steps = steps_in_next_call(steps, ...)      # one watched step, or all before the next one
            run them, a watched step in a graph of its own
            measured(rows, ...)
        stop()

    A watched step is the first step, from a multiple of `every` on, that makes an update.

    Args:
        model: the model from whose variables filters choose.
        optimizer: with the loss scale around it, if there is one.
        accumulate: number of batches for one update.

    Attributes:
        request: what the next call measures; None for nothing.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, accumulate: int) -> None:
        self._model = model
        self._scale = LossScale(optimizer)
        self._accumulate = accumulate
        self._schedules: list[WatchSchedule] = []
        self._restored: dict[str, list[int]] = {}  # for the next `start`
        self._number = 0  # of the step that runs next
        self._loss_scale: float | None = None
        self._warned = False  # of layers that cannot be measured
        self.request: MeasureRequest | None = None

    def start(self, watches: Sequence[Watch], mean: Mean, asynchronous: bool) -> None:
        """Starts watching.

        Args:
            watches: what callbacks want measured.
            mean: the mean over workers, as the step computes it.
            asynchronous: whether workers run steps independently of each other; these are not measured.

        Raises:
            TypeError, ValueError: an interval that is no whole number of at least 1.
            SelectionError: a filter that matches nothing.
        """
        restored = self._restored
        self.stop()
        schedules = [WatchSchedule(self._model, watch) for watch in watches]
        agreed = same_on_all_workers(zlib.crc32(repr([each.key for each in schedules]).encode()), mean)
        why = ""
        if not agreed:
            why = (
                "the callbacks of the workers want different steps watched, and the workers would wait for "
                "each other for ever: give each worker the same callbacks (only the chief's write files)"
            )
        elif asynchronous and schedules:
            why = (
                "with parameter servers, workers update the weights independently, so norms belong to no "
                "step. Leave it out, `watch=None`, or use another strategy"
            )
        if why:
            warnings.warn(f"No step is watched, as {why}.", stacklevel=2)
        else:
            self._schedules = schedules
            self.set_state(restored)

    def stop(self) -> None:
        """Stops watching."""
        self._schedules, self._restored, self.request = [], {}, None

    def state(self) -> dict[str, list[int]]:
        """The position of each watch, as JSON."""
        return {schedule.name: schedule.state() for schedule in self._schedules}

    def set_state(self, state: dict[str, list[int]]) -> None:
        """Restores `state`, now or when the watches start; other watches begin with the next step."""
        for schedule in self._schedules:
            schedule.set_state(state.get(schedule.name))
        self._restored = {} if self._schedules else state

    def steps_in_next_call(self, steps: int, done: Callable[[], int], waiting: Callable[[], int]) -> int:
        """How many of the next `steps` the next call may run; sets `request`.

        Args:
            done: gives the number of steps that have run.
            waiting: gives the number of these that wait for an update.
        """
        self.request = None
        if not self._schedules:
            return steps
        ran, waited = done(), waiting()
        self._number, update = ran + 1, ran + self._accumulate - waited
        for schedule in self._schedules:
            schedule.start(ran - waited)
        watched = min(schedule.next_step(update, self._accumulate) for schedule in self._schedules)
        if watched > self._number:
            return min(steps, watched - self._number)
        # Two graphs at most: with histograms and without, for the union of all watches.
        histograms = [each.histograms for each in self._schedules if each.histograms_due(self._number)]
        activations = [each.activations for each in self._schedules]
        self.request = MeasureRequest(
            *(tuple(sorted(set().union(*each))) for each in (histograms, activations))
        )
        if self._scale.exists:
            self._loss_scale = float(self._scale.scaled(tf.constant(1.0)))
        return 1

    def measured(self, rows: Array, meters: Meters | None) -> list[PerWatch]:
        """The measurements of the steps that ran, for each watch: of one step at most, as it runs alone.

        Args:
            rows: the records of these steps.
            meters: of the step, if it was watched.
        """
        for schedule in self._schedules:
            schedule.count(rows)
        if meters is None or not len(rows):
            return []
        readings = meters.read()
        if meters.activations is not None and not self._warned:
            self._warned = _warn_of_missing(meters.activations.missing())
        if self._accumulate > 1 and not readings.taken:
            return []  # a skipped step has delayed the update
        return [[each.measured(self._number, readings, self._loss_scale) for each in self._schedules]]


def _warn_of_missing(missing: list[str]) -> bool:
    """Warns of layers that cannot be measured; returns whether there are any."""
    if missing:
        warnings.warn(
            f"`activations` chose layers that give nothing to measure in a step: {first_few(missing)}. "
            "They are not called, run inside of another layer's loop (the cell of an RNN), or give no "
            "floating numbers: choose the layer around them",
            stacklevel=2,
        )
    return bool(missing)
