"""A profile of some steps, for the tab Profile."""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Any

import tensorflow as tf

from ...optim.common.types import Array
from .content import Board, Content

_PLUGINS = ("tensorboard_plugin_profile", "xprof")


class Profile(Content):
    """Runs TensorFlow's profiler over exactly these steps, each in a call of its own and marked as a step.

    `first` and `last` are numbers among all steps of the training, from 1.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._folder: str | None = None  # None except on the chief
        self._profiling = False
        self._trace: Any = None  # marks the step that runs
        self._done = 0

    def on_train_begin(self, board: Board) -> None:
        board.files.check_run_folder(os.path.join("train", "plugins"))
        if not any(map(importlib.util.find_spec, _PLUGINS)):
            warnings.warn(
                f"{self} is written, and this Python lacks the plugin that shows it: where TensorBoard runs, "
                "`pip install tensorboard-plugin-profile`.",
                stacklevel=2,
            )

    def on_session_begin(self, board: Board, step: int, epoch: int) -> None:
        self._folder, self._done = os.path.join(board.log_dir, "train"), step - 1

    def steps_allowed(self, done: int) -> int | None:
        if done + 1 < self._first:
            return self._first - 1 - done
        if done >= self._last:
            return None
        if self._folder is not None:  # a step is about to run
            self._begin_step(self._folder, done + 1)
        return 1

    def on_steps(self, board: Board, first: int, values: dict[str, Array]) -> None:
        self._done = first + len(values["loss"]) - 1
        self._end_step()
        if self._done >= self._last:
            self._stop()

    def on_train_end(self, board: Board, logs: dict[str, float]) -> None:
        self._end_step()
        self._stop()
        self._folder = None
        if self._done < self._last and not board.failed:
            warnings.warn(
                f"{self} goes past the end of training, which came after step {self._done}: name steps that "
                "run.",
                stacklevel=2,
            )

    def _begin_step(self, folder: str, number: int) -> None:
        if not self._profiling:
            try:
                tf.profiler.experimental.start(folder)
            except tf.errors.AlreadyExistsError as error:
                raise RuntimeError(
                    f"{self} cannot begin at step {number}: another profiler is running, and TensorFlow has "
                    "one at a time. End it, `tf.profiler.experimental.stop()`, or leave `profile` out, or "
                    "`profile_batch` of Keras' own callback."
                ) from error
            self._profiling = True
        self._end_step()  # a step that never ran, as the data ended
        self._trace = tf.profiler.experimental.Trace("train", step_num=number, _r=1)
        self._trace.__enter__()

    def _end_step(self) -> None:
        trace, self._trace = self._trace, None
        if trace is not None:
            trace.__exit__(None, None, None)

    def _stop(self) -> None:
        if self._profiling:
            self._profiling = False
            tf.profiler.experimental.stop()

    def __str__(self) -> str:
        return f"`profile` ({self._first}, {self._last})"
