"""How far a run is, and the callbacks that read every step's values."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ...optim.common.messages import short_repr
from ..callbacks.run_callbacks import RunCallbacks
from ..callbacks.steps_callback import StepsCallback, batches_trained
from ..data.batches import Data
from ..loss.records import Records, RunningMeans
from ..step.train_step import TrainStep
from ..step.watch import Watch


class RunProgress:
    """Counts a run's batches, averages what they recorded, and tells each `StepsCallback`.

    Attributes:
        done: batches in all of the step's training, as far as callbacks have been told.
        epoch: the one that is running, from 0.
        batch: how many of its batches have run.
        means: of these batches.
        logs: of the last epoch that ended.
        in_epoch: whether the run is between the hooks at an epoch's beginning and those at its end.
    """

    def __init__(self, step: TrainStep, hooks: RunCallbacks, data: Data, validation: Data | None) -> None:
        self._step = step
        self._data = data, validation
        self._hooks, self._callbacks = hooks, hooks.steps_callbacks
        self._watchers: list[StepsCallback] = []
        self.done = self.epoch = self.batch = 0
        self.means = RunningMeans(step.loss_and_metrics.metrics)
        self.logs: dict[str, float] = {}
        self.in_epoch = False

    def set_train_step(self) -> None:
        """Tells each `StepsCallback` which step trains, and on what, and has measured what they want."""
        for callback in self._callbacks:
            self._hooks.call(callback, "set_data", *self._data)
            self._hooks.call(callback, "set_train_step", self._step)
        wanted = [(callback, self._hooks.call(callback, "watch")) for callback in self._callbacks]
        for callback, watch in wanted:
            if not isinstance(watch, (Watch, type(None))):
                raise TypeError(
                    f"`watch` of {type(callback).__name__} returned {short_repr(watch)}: return a "
                    "`loops.Watch(...)`, or None."
                )
        self._watchers = [callback for callback, watch in wanted if watch is not None]
        self._step.watch([watch for _, watch in wanted if watch is not None])

    def start_run(self, first_epoch: int, steps: int | None) -> None:
        """Counts the batches before the first epoch, which is not 0 if `BackupAndRestore` resumes it."""
        self.done, self.epoch = batches_trained(self._step, first_epoch, steps), first_epoch
        if self.done != int(self._step.batches_done.numpy()):
            self._step.batches_done.assign(self.done)

    def resume_run(self, epoch: int, logs: dict[str, float]) -> None:
        """Takes over the counts of a run that a checkpoint restored, and its last epoch's logs."""
        self.done, self.epoch, self.logs = int(self._step.batches_done.numpy()), epoch, logs

    def start_epoch(self, epoch: int) -> None:
        self.epoch, self.batch, self.means = epoch, 0, RunningMeans(self._step.loss_and_metrics.metrics)
        self._hooks.when = self._when

    def start_batches(self, batch: int) -> None:
        """The hooks of the epoch's beginning have run, and its batches follow from this one on."""
        self.batch, self.in_epoch = batch, True
        if batch:
            for callback in self._callbacks:
                self._hooks.call(callback, "on_epoch_resumed", batch)

    def add(self, records: Records | None) -> None:
        """Counts what a call recorded, and tells the callbacks."""
        if records is None or not len(records):
            return
        first, values = self.done + 1, records.values()
        self.means.add(records)
        self.batch += len(records)
        self.done += len(records)  # the last to change: see `is_whole`
        for callback in self._callbacks:
            self._hooks.call(callback, "on_train_steps_end", first, values)
        for offset, told in records.measured:
            for callback, measured in zip(self._watchers, told):
                if measured is not None:
                    self._hooks.call(callback, "on_measured", first + offset, measured)

    def end_epoch(self, logs: dict[str, float]) -> None:
        self.logs, self.in_epoch = logs, False

    def steps_allowed(self) -> int | None:
        """How many steps the next call may run at most; None for any number."""
        limits = [self._hooks.call(each, "steps_allowed", self.done) for each in self._callbacks]
        return min((max(limit, 1) for limit in limits if limit is not None), default=None)

    @property
    def is_whole(self) -> bool:
        """Whether what has run is counted everywhere; not if something raised between lines that count."""
        return not self._step.interrupted and int(self._step.batches_done.numpy()) == self.done

    def closings(self) -> list[Callable[[], None]]:
        """What ends each `StepsCallback` that has begun, of a run that failed, so that it closes its files.

        Keras' own are not told, as `fit` does not tell them: `BackupAndRestore` would delete its backup.
        """
        begun = [callback for callback in self._callbacks if callback in self._hooks.begun]
        return [functools.partial(self._hooks.call, each, "on_train_failed", self.logs) for each in begun]

    def _when(self) -> str:
        return f"after step {self.done}, in epoch {self.epoch + 1}"
