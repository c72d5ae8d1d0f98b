"""The loop of `train`: its epochs, and where it is in them."""

from __future__ import annotations

import keras

from ..callbacks.keras_bridge import wants_every_step
from ..callbacks.steps_callback import StepsCallback
from ..device.steps_per_call import StepsPerCall
from ..loss.records import Records, RunningMeans
from ..step.train_step import TrainStep
from ..support.keras_private import take_initial_epoch
from ..update.nonfinite import NonFiniteError
from .epoch_reader import EpochReader
from .resume import RunCheckpointer
from .validation import Validation


class EpochLoop:
    """One call of `train`, with what it counts.

    Args:
        step: runs the batches.
        feed: gives them.
        validation: evaluates after each epoch; None for none.
        hooks: the callbacks, a `History` among them.
        keeper: writes checkpoints; None for none.

    Attributes:
        readers: those callbacks that take the values of many steps at a time.
        logs: of the last epoch.
    """

    def __init__(
        self,
        step: TrainStep,
        feed: EpochReader,
        validation: Validation | None,
        hooks: keras.callbacks.CallbackList,
        keeper: RunCheckpointer | None = None,
    ) -> None:
        self._step = step
        self._feed = feed
        self._validation = validation
        self._hooks = hooks
        self._keeper = keeper
        self.readers = [c for c in hooks.callbacks if isinstance(c, StepsCallback)]
        self._each = any(wants_every_step(callback) for callback in hooks.callbacks)
        self._pace = StepsPerCall(1) if self._each else step.steps_per_call
        self._done = 0  # batches in all of the step's training, as far as the callbacks know
        self._epoch = self._batch = 0
        self._within = False  # an epoch, between the hooks of its beginning and those of its end
        self._means = RunningMeans(step.loss_and_metrics.metrics)
        self.logs: dict[str, float] = {}

    def epochs(self, epochs: int) -> None:
        """Runs epochs up to a number, from the first or from where a checkpoint stands."""
        resumed = None if self._keeper is None else self._keeper.resumed
        first = take_initial_epoch(self._step.model)
        if resumed is None:
            self._done = self._count(first)
        else:
            self._done = int(self._step.batches_done.numpy())
            first, self.logs = resumed["epoch"], resumed["logs"]
            epochs = first if resumed["ended"] else epochs
        for epoch in range(first, epochs):
            self._begin_epoch(epoch)
            logs = self._train_epoch(epoch)
            if self._validation is not None:
                for name, value in self._validation(self._hooks).items():
                    logs[f"val_{name}"] = value
            self._within, self.logs = False, logs
            self._hooks.on_epoch_end(epoch, self.logs)
            ended = bool(self._step.model.stop_training)
            if self._keeper is not None:
                self._keeper.after_epoch(epoch, self.logs, ended, last=ended or epoch + 1 == epochs)
            if ended:
                return

    def keep(self) -> None:
        """Writes a checkpoint of a run that was interrupted, if that was in an epoch.

        In the hooks at its beginning and end, nobody knows which have run: the checkpoint before it stands.
        """
        if self._keeper is None or not self._within:
            return
        # What ran in a call that was interrupted, before it could be told.
        missed = int(self._step.batches_done.numpy()) - self._done
        self._keeper.interrupted(self._epoch, self._batch + missed, self._means, self.logs, missed)

    def _begin_epoch(self, epoch: int) -> None:
        self._epoch, self._batch, self._means = epoch, 0, RunningMeans(self._step.loss_and_metrics.metrics)
        self._hooks.on_epoch_begin(epoch)
        self._step.reset_metrics()
        if self._keeper is not None:
            self._batch = self._keeper.after_epoch_begin(self._means)
            if self._batch:
                for reader in self.readers:
                    reader.on_epoch_resumed(self._batch)
        self._within = True

    def _count(self, first: int) -> int:
        """The batches trained on before this run's; called when callbacks have begun."""
        step = self._step
        # An optimizer that someone restored knows of steps that `step` did not make, but not of skipped ones.
        updated = int(step.optimizer.iterations.numpy()) * step.accumulate
        ran = int(step.batches_done.numpy())
        done = max(updated, first * (self._feed.steps or 0) if first else ran)
        if done != ran:
            step.batches_done.assign(done)
        return done

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        begin = (lambda: self._hooks.on_train_batch_begin(self._batch)) if self._each else None
        batches = self._feed.epoch(epoch, self._step, self._pace, begin, self._allowed, self._batch)
        try:
            for records in batches:
                self._take(records)
                if self._each:
                    self._hooks.on_train_batch_end(self._batch - 1, self._means.result())
                if self._step.model.stop_training:
                    break
                if self._keeper is not None:
                    self._keeper.after_steps(epoch, self._batch, self._means, self.logs)
        except (NonFiniteError, KeyboardInterrupt):
            self._take(self._feed.unfinished)
            raise
        return self._means.result()

    def _allowed(self) -> int | None:
        """How many steps the next call may run, by those callbacks that have a say in it."""
        wishes = [reader.steps_allowed(self._done) for reader in self.readers]
        return min((max(wish, 1) for wish in wishes if wish is not None), default=None)

    def _take(self, records: Records | None) -> None:
        """Counts what a call recorded, and tells the callbacks that read it."""
        if records is None or not len(records):
            return
        self._means.add(records)
        self._batch += len(records)
        first, values = self._done + 1, records.values()
        self._done += len(records)
        for reader in self.readers:
            reader.on_train_steps_end(first, values)
