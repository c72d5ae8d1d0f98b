"""How a run is kept in checkpoints, and taken up again from one."""

from __future__ import annotations

import os
from typing import Any

import keras
from tqdm import tqdm

from ..callbacks.keras_bridge import swap_in
from ..checkpoint.callback_state import CallbackStates
from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.directory import iterator_in
from ..checkpoint.tensor_file import TensorFile, holds_state
from ..distribute.cluster import is_chief
from ..distribute.scope import has_other_workers, is_asynchronous
from ..loss.records import RunningMeans
from ..step.train_step import TrainStep
from .epoch_reader import EpochReader


class RunCheckpointer:
    """Writes the checkpoints of a run, and gives a run what one holds.

    Taking up goes along with a run's beginning, so that whatever a callback does there for the second time,
    such as to lower the learning rate, is not in the numbers: `resume`, the callbacks' `on_train_begin`,
    `after_train_begin`, their `on_epoch_begin`, `after_epoch_begin`.

    Args:
        checkpoint: where to.
        step: the run's.
        feed: the run's.
        hooks: the run's callbacks.

    Attributes:
        resumed: where the run was that goes on, as it was written down; None for one that begins.
    """

    def __init__(
        self, checkpoint: Checkpoint, step: TrainStep, feed: EpochReader, hooks: keras.callbacks.CallbackList
    ) -> None:
        self._checkpoint = checkpoint
        self._step = step
        self._feed = feed
        self._hooks = hooks
        self._states = CallbackStates(hooks.callbacks)
        self._file: TensorFile | None = None
        self._kept: tuple[int, int] | None = None  # epoch and batch of the last checkpoint
        self.resumed: dict[str, Any] | None = None

    # -- taking up -----------------------------------------------------------------------------------------

    def resume(self, epochs: int) -> None:
        """Takes up what the newest checkpoint holds, if there is one.

        Args:
            epochs: how many the run is to have.

        Raises:
            ValueError: it is damaged, or of another model, optimizer, step, data or kind of callbacks; the
                step is as it was then.
        """
        file = self._checkpoint.open(self._step)
        if file is None:
            return
        run = file.note.get("run")
        if run is None:
            raise ValueError(
                f"The checkpoint {file.path!r} was written by `Checkpoint.save`, which knows of no run of "
                "`train`: take it up with `restore`, or name another folder."
            )
        if run["steps"] != self._feed.steps:
            raise ValueError(
                f"An epoch is {self._feed.steps} batches, and was {run['steps']} in the run of the "
                f"checkpoint {file.path!r}: pass the same data and `steps_per_epoch`, or name another folder."
            )
        if run["measures"] != self._measures():
            here, there = (", ".join(names) or "none" for names in (self._measures(), run["measures"]))
            raise ValueError(
                f"`metrics` are {here}, and were {there} in the run of the checkpoint {file.path!r}: make "
                "the step as it was, or name another folder."
            )
        place = os.path.dirname(file.path)
        kept = iterator_in(place)
        try:
            found = kept if holds_state(kept) else None
            self._feed.go_to(file.note["data"], run["batch"], file.path, found)
            self._states.before_begin(file)
            self._checkpoint.give(self._step, file)
        except BaseException:
            self._feed.give_back()
            raise
        self._file, self.resumed = file, run
        self._kept = run["epoch"], run["batch"]
        if self._checkpoint.verbose and is_chief():
            self._tell(run, epochs, place)

    def after_train_begin(self) -> None:
        """Gives back what the callbacks' `on_train_begin` set to its beginning."""
        if self._file is None or self.resumed is None:
            return
        self._states.after_begin(self._file)
        for callback in self._hooks.callbacks:
            if isinstance(callback, keras.callbacks.History):
                callback.history = {name: list(values) for name, values in self.resumed["history"].items()}
                callback.epoch = list(self.resumed["epochs"])
        if not self.resumed["batch"]:
            swap_in(self._hooks)
        self._checkpoint.give(self._step, self._file)

    def after_epoch_begin(self, means: RunningMeans) -> int:
        """Gives back what an epoch's beginning set anew, if it had begun.

        Args:
            means: of the epoch; takes up those until now.

        Returns:
            How many of its batches had run.
        """
        file, run, self._file = self._file, self.resumed, None  # for the first epoch alone
        if file is None or run is None or not run["batch"]:
            return 0
        self._checkpoint.give(self._step, file)
        means.set_state(run["means"])
        return int(run["batch"])

    @staticmethod
    def _tell(run: dict[str, Any], epochs: int, place: str) -> None:
        batch = f" after {run['batch']} of its batches" if run["batch"] else ""
        if run["ended"] or run["epoch"] >= epochs:
            tqdm.write(f"Training is done after {run['epoch']} epochs, by {place}")
        else:
            tqdm.write(f"Training goes on at epoch {run['epoch'] + 1}{batch}, from {place}")

    # -- writing -------------------------------------------------------------------------------------------

    def after_steps(self, epoch: int, batch: int, means: RunningMeans, logs: dict[str, float]) -> None:
        """Writes a checkpoint in the middle of an epoch, if the time has come.

        Args:
            epoch: that is running.
            batch: how many of its batches have run.
            means: of the epoch until now.
            logs: of the epoch before.
        """
        at_end = batch == self._feed.steps and (epoch + 1) % self._checkpoint.every_epochs == 0
        if not at_end and self._checkpoint.due(self._step):
            self._write(epoch, batch, means, logs)

    def after_epoch(self, epoch: int, logs: dict[str, float], ended: bool, last: bool) -> None:
        """Writes a checkpoint between two epochs, if the time has come.

        Args:
            epoch: that has ended.
            logs: its own.
            ended: whether a callback ended training.
            last: whether no epoch comes after it.
        """
        if last or (epoch + 1) % self._checkpoint.every_epochs == 0:
            self._write(epoch + 1, 0, None, logs, ended)

    def interrupted(
        self, epoch: int, batch: int, means: RunningMeans, logs: dict[str, float], missed: int
    ) -> None:
        """Writes a checkpoint of a run that somebody ended, unless workers may be at different steps.

        Args:
            epoch: that was running.
            batch: how many of its batches have run.
            means: of the epoch, as far as is known.
            logs: of the epoch before.
            missed: how many batches ran of which `feed` was not told.
        """
        strategy = self._step.strategy
        same = not (has_other_workers(strategy) or is_asynchronous(strategy))
        if same and batch and (epoch, batch) != self._kept:
            self._write(epoch, batch, means, logs, missed=missed)

    def _write(
        self,
        epoch: int,
        batch: int,
        means: RunningMeans | None,
        logs: dict[str, float],
        ended: bool = False,
        missed: int = 0,
    ) -> None:
        states, arrays = self._states.gather()
        history = self._step.model.history
        run = {
            "epoch": epoch,
            "batch": batch,
            "means": None if means is None else means.state(),
            "logs": logs,
            "history": history.history,
            "epochs": history.epoch,
            "steps": self._feed.steps,
            "measures": self._measures(),
            "callbacks": states,
            "ended": ended,
        }
        note = {"run": run, "data": self._feed.place(missed)}
        self._checkpoint.write(self._step, note, arrays, self._feed.iterator_to_keep(batch))
        self._kept = epoch, batch

    def _measures(self) -> list[str]:
        return [metric.name for metric in self._step.loss_and_metrics.metrics]
