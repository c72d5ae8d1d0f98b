"""Steps and examples per second, the share of time spent waiting for data, and peak memory."""

from __future__ import annotations

import math
import time

import tensorflow as tf

from ...optim.common.types import Array
from ..step.watch import Measured
from .content import Board, Content


class Speed(Content):
    """`speed/...` and `memory/...` on watched steps, in the run `steps`.

    Measured in wall-clock time from one watched step to the next, or from the start of an epoch. So callbacks
    and checkpoints count, and validation does not. The first watched step is measured alone, since tracing
    ran before it.
    """

    def __init__(self) -> None:
        self._last = 0  # number of the last step
        self._since: tuple[int, float] | None = None  # number and end time of the step before the interval

    def on_session_begin(self, board: Board, step: int, epoch: int) -> None:
        self._since = None

    def on_steps(self, board: Board, first: int, values: dict[str, Array]) -> None:
        self._last = first + len(values["loss"]) - 1

    def on_epoch_end(self, board: Board, epoch: int, logs: dict[str, float]) -> None:
        if self._since is not None:
            self._since = self._last, time.time()

    def on_measured(self, board: Board, number: int, measured: Measured) -> None:
        clock = measured.time
        if clock is None or not measured.scalars:
            return
        before, since = self._since or (number - 1, clock.began)
        self._since = number, clock.ended
        seconds = (clock.ended - since) / max(number - before, 1)  # per step
        if seconds <= 0:  # the clock was set back
            return
        scalars = {"speed/steps_per_s": 1 / seconds, "speed/examples_per_s": clock.examples / seconds}
        if not math.isnan(clock.waited):
            scalars["speed/waiting_for_data"] = min(clock.waited / seconds, 1.0)
        for index in range(len(tf.config.list_logical_devices("GPU"))):
            peak = tf.config.experimental.get_memory_info(f"GPU:{index}")["peak"]
            scalars[f"memory/GPU:{index}_peak"] = peak
        board.files.write_scalars("steps", [number], {tag: [value] for tag, value in scalars.items()})
