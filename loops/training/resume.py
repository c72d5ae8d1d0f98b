"""A run's checkpoints: when they are written, and how a run resumes from one."""

from __future__ import annotations

import math
import os
import time

import keras
import numpy as np
from tqdm import tqdm

from ..callbacks.keras_bridge import metric_modes, swap_averages_in
from ..checkpoint.callback_state import CallbackStates
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.metadata import Metadata, RunMetadata
from ..checkpoint.paths import iterator_in
from ..checkpoint.retention import Entry, check_policies, policies_of
from ..checkpoint.save_and_restore import store_of
from ..checkpoint.saved_step import SavedStep, Snapshot
from ..checkpoint.store import assign
from ..checkpoint.tensor_file import TensorFile, is_written
from ..distribute.cluster import is_chief
from ..step.train_step import TrainStep
from ..update.restore import RATE_CUTS
from .begun_callbacks import may_have_changed_variables
from .epoch_reader import EpochReader
from .progress import RunProgress
from .same_run import run_of


class RunCheckpointer:
    """Writes a run's checkpoints and resumes from them; without a `Checkpoint` it does nothing.

        before_train_begin     read the newest checkpoint; restore the data's position, callbacks and state
        on_train_begin of the callbacks
        after_train_begin      restore what that reset
        on_epoch_begin of the callbacks
        after_epoch_begin      the same, if the epoch had begun
        after_call, after_epoch, after_interrupt       write, if it is time

    Args:
        cuts: how often the rates are cut where the run resumes; None for as often as in the checkpoint.

    Attributes:
        cuts: as given.
        resumed: where the run stood that resumes; None for one that begins.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        step: TrainStep,
        reader: EpochReader,
        hooks: keras.callbacks.CallbackList,
        cuts: int | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._store = None if checkpoint is None else store_of(checkpoint)
        self._saved = None if checkpoint is None else SavedStep(step)
        self._step = step
        self._reader = reader
        self._hooks = hooks
        self.cuts = cuts
        self._states = CallbackStates(hooks.callbacks, hooks.call)
        self._file: TensorFile | None = None
        self._last: tuple[int, int] | None = None  # epoch and batch of the last checkpoint
        self._last_time = 0.0  # by the clock
        self._before: Snapshot | None = None  # what the step was before it resumed
        self._lengths: dict[str, int] = {}  # of the history at the end of the epoch before
        self._logged: dict[str, float] = {}  # in the last epoch
        self.resumed: RunMetadata | None = None

    # -- resuming ------------------------------------------------------------------------------------------

    def before_train_begin(self, epochs: int) -> None:
        """Resumes from the newest checkpoint, if there is one, a run that is to have so many epochs.

        If it is damaged or of something else, it raises ValueError, and the step is unchanged.
        """
        if self._store is None or self._saved is None or self._checkpoint is None:
            return
        file = self._store.load(self._saved, self._look)
        if file is None:
            return
        if self.cuts is not None:
            file.values[RATE_CUTS] = np.asarray(self.cuts, np.int64)
        run = run_of(file, self._reader.steps, self._metrics())
        if self.cuts is None:  # else this run made it, and what it changed since is no other setting
            self._saved.warn_of_differences(file)
        folder = os.path.dirname(file.path)
        iterator_path = iterator_in(folder)
        saved = iterator_path if is_written(iterator_path) else None
        self._reader.resume(file.metadata["data"] or {}, run["batch"], file.path, saved)
        self._states.before_train_begin(file)
        # The state may be assigned twice. Now, since `on_train_begin` may look at it, as that of `Unfreeze`
        # does; and after the hooks that had run before the checkpoint, so that one that, say, halves the
        # learning rate does not halve it again.
        assign(self._saved, file)
        self._file, self.resumed = file, run
        self._last = run["epoch"], run["batch"]
        self._lengths = {name: len(values) for name, values in run["history"].items()}
        if self._checkpoint.verbose and is_chief():
            within = f" after {run['batch']} of its batches" if run["batch"] else ""
            if run["ended"] or run["epoch"] >= epochs:
                tqdm.write(f"Training is done after {run['epoch']} epochs, by {folder}")
            else:
                tqdm.write(f"Training goes on at epoch {run['epoch'] + 1}{within}, from {folder}")

    def _look(self) -> None:
        """Takes from the step what a resume needs of it, while the file is read."""
        assert self._saved is not None
        self._saved.read_settings()
        self._before = Snapshot(self._saved)

    def put_back(self) -> None:
        """Undoes what resuming changed of the step, if the run fails before its first batch."""
        if self._before is not None:
            self._before.put_back()

    def check_states(self) -> None:
        """Raises TypeError if a callback has a state that no checkpoint can hold."""
        if self._store is not None:
            self._states.gather()

    def after_train_begin(self) -> None:
        """Restores what the callbacks' `on_train_begin` reset."""
        self._last_time = time.monotonic()
        if self._file is None or self.resumed is None or self._saved is None:
            return
        self._states.after_train_begin(self._file)
        for callback in self._hooks.callbacks:
            if isinstance(callback, keras.callbacks.History):
                callback.history = {name: list(values) for name, values in self.resumed["history"].items()}
                callback.epoch = list(self.resumed["epochs"])
        if not self.resumed["batch"]:
            if self.resumed["epochs"]:  # else it is the run's beginning
                swap_averages_in(self._hooks)
            if may_have_changed_variables(self._hooks.callbacks):
                assign(self._saved, self._file)

    def after_epoch_begin(self, progress: RunProgress) -> None:
        """Restores what the beginning of an epoch reset that had begun already; starts its batches."""
        file, run, self._file = self._file, self.resumed, None  # for the first epoch alone
        self._before = None
        if file is None or run is None or run["means"] is None or self._saved is None:
            progress.start_batches(0)
            return
        assign(self._saved, file)
        progress.means.set_state(run["means"])
        progress.start_batches(run["batch"])

    # -- writing -------------------------------------------------------------------------------------------

    def before_first_epoch(self, progress: RunProgress) -> None:
        """Writes a checkpoint of the beginning of a run that may have to go back there."""
        if self._store is not None and self._step.rate_cuts is not None and self.resumed is None:
            self._write(progress, progress.epoch, 0)

    def after_call(self, progress: RunProgress) -> None:
        """Writes a checkpoint within an epoch, if it is time."""
        settings = self._checkpoint
        if settings is None:
            return
        if progress.batch == self._reader.steps and (progress.epoch + 1) % settings.every_epochs == 0:
            return  # `after_epoch` writes it
        every, minutes = settings.every_steps, settings.every_minutes
        by_steps = every is not None and int(self._step.batches_done.numpy()) % every == 0
        if by_steps or (minutes is not None and self._waited() >= 60 * minutes):
            self._write(progress, progress.epoch, progress.batch)

    def _waited(self) -> float:
        """Seconds since the last checkpoint; the same for all workers, since they must save together."""
        waited = time.monotonic() - self._last_time
        mean = self._step.mean_over_workers
        return waited if mean is None else mean(waited)

    def after_epoch(self, progress: RunProgress, ended: bool, last: bool) -> None:
        """Writes a checkpoint, if it is time, or if the run ends here: `ended` by a callback."""
        settings = self._checkpoint
        if settings is not None:
            seen = dict.fromkeys(self._step.model.history.history, math.nan)
            about = Entry(0, progress.done, seen, self._modes(seen))
            check_policies(policies_of(settings.keep), [about])
            self._logged = self._new_logs()
        if settings is not None and (last or (progress.epoch + 1) % settings.every_epochs == 0):
            self._write(progress, progress.epoch + 1, 0, ended, background=not last)

    def after_interrupt(self, progress: RunProgress, agreed: bool) -> None:
        """Writes a checkpoint of a run that was interrupted, if that was between the hooks of an epoch.

        What a thread writes is waited for.

        Within those hooks, nobody knows which have run, between the lines that count, what was counted, and
        several workers that have not agreed to end may be at different steps: there the checkpoint before
        remains the newest.
        """
        alone = self._step.mean_over_workers is None
        if self._store is None or not (agreed or alone):
            return
        new = progress.batch and (progress.epoch, progress.batch) != self._last
        if new and progress.in_epoch and progress.is_whole:
            self._write(progress, progress.epoch, progress.batch, background=False)
        self._store.wait(self._step.mean_over_workers)

    @property
    def newest(self) -> str | None:
        """The folder of the newest checkpoint; None for none."""
        return None if self._store is None else self._store.newest

    def _write(
        self, progress: RunProgress, epoch: int, batch: int, ended: bool = False, *, background: bool = True
    ) -> None:
        assert self._store is not None and self._saved is not None
        states, arrays = self._states.gather()
        history = self._step.model.history
        run: RunMetadata = {
            "epoch": epoch,
            "batch": batch,
            "means": progress.means.state() if batch else None,
            "logs": progress.logs,
            "history": history.history,
            "epochs": history.epoch,
            "steps": self._reader.steps,
            "measures": self._metrics(),
            "callbacks": states,
            "ended": ended,
        }
        metadata: Metadata = {"run": run, "data": self._reader.position(batch)}
        if not batch:  # means of a part of an epoch are not to be compared with those
            metadata |= {"metrics": self._logged, "modes": self._modes(self._logged)}
        iterator = self._reader.source.iterator_to_save(batch)
        self._store.save(self._saved, metadata, arrays, iterator, background=background)
        self._last, self._last_time = (epoch, batch), time.monotonic()

    def _new_logs(self) -> dict[str, float]:
        """What the epoch that ended has logged, with what callbacks added."""
        before, history = self._lengths, self._step.model.history.history
        self._lengths = {name: len(values) for name, values in history.items()}
        return {n: history[n][-1] for n, count in self._lengths.items() if count > before.get(n, 0)}

    def _modes(self, logs: dict[str, float]) -> dict[str, str]:
        """Whether less or more is better, of what is logged and is known to be either."""
        step = self._step
        ways = {"loss": "min"} | metric_modes(zip(step.metrics, step.loss_and_metrics.metrics))
        known = {name: ways.get(name.removeprefix("val_")) for name in logs}
        return {name: mode for name, mode in known.items() if mode}

    def _metrics(self) -> list[str]:
        return [metric.name for metric in self._step.loss_and_metrics.metrics]
