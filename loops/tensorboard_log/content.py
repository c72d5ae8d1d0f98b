"""One kind of content of a `TensorBoard`, such as scalars or images.

To add one: derive from `Content` in a file of this room, and construct it in `TensorBoard.__init__`. Each
method gets the `TensorBoard` as `board`, and writes through its `files` to a run of its choice:

    board.files.write_scalars("steps", [number], {"speed/steps_per_s": [120.0]})
    board.files.write_values("train", epoch, [tf.compat.v1.Summary.Value(...)])
    board.files.submit("train", 0, lambda file: file.write_graph(0, graph))     # called in the thread

The usual runs are `steps` (by number of the step, from 1), `train` and `validation` (by number of the epoch,
from 1). Content that is written once in a session has the number of its first epoch, so that it is shown
once, too.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras

from ...optim.common.types import Array
from ..data.batches import Data
from ..step.train_step import TrainStep
from ..step.watch import Measured
from .event_files import EventFiles


class Board(Protocol):
    """The attributes of `TensorBoard` that contents use."""

    log_dir: str
    files: EventFiles
    failed: bool  # whether the run has failed
    model: keras.Model  # this and the following are set by `train`
    params: dict[str, Any]
    train_step: TrainStep
    data: Data
    validation: Data | None


class Content:
    """One kind of content. Each method may be left out; of several workers, only the chief calls them.

        on_train_begin      may raise; nothing can be written yet
        on_session_begin    the first epoch of the run begins
        on_steps, on_measured, on_epoch_end
        on_train_end        if `on_session_begin` was called; after a failed run, too; files are still open

    An object may be used for several runs, one after another.
    """

    def on_train_begin(self, board: Board) -> None:
        """Called when training begins; raises for settings that do not fit the model or the data."""

    def on_session_begin(self, board: Board, step: int, epoch: int) -> None:
        """Called when the first epoch begins; with the numbers of the next step and of the epoch, from 1."""

    def on_steps(self, board: Board, first: int, values: dict[str, Array]) -> None:
        """Called as `StepsCallback.on_train_steps_end`."""

    def on_measured(self, board: Board, number: int, measured: Measured) -> None:
        """Called as `StepsCallback.on_measured`."""

    def on_epoch_end(self, board: Board, epoch: int, logs: dict[str, float]) -> None:
        """Called after an epoch and its validation; `epoch` counts from 1."""

    def on_train_end(self, board: Board, logs: dict[str, float]) -> None:
        """Called at the end of training, with the logs of the last epoch that ended."""

    def steps_allowed(self, done: int) -> int | None:
        """As `StepsCallback.steps_allowed`; called on all workers, which need the same answer."""
        return None
