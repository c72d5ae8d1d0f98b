"""`ProgressBar`: shows the progress of a run."""

from __future__ import annotations

import io
import math
import sys
import time
from typing import TextIO

import numpy as np

from ...optim.common.arguments import real_number
from ...optim.common.types import Array
from ..distribute.cluster import is_chief
from .progress_display import Display, make_display
from .progress_text import Progress
from .steps_callback import StepsCallback


class ProgressBar(StepsCallback):
    """Shows the steps done, the speed, the time left and the means of each epoch; at its end, the logs.

    In a notebook it is a widget, in a terminal a line that fits its width and is redrawn at most ten times a
    second. Anywhere else (a file, `| tee`, Slurm) it writes whole lines without control characters: at the
    end of each epoch, and every `every_seconds` within one. Of several workers, only the chief shows it.

    It shows what `train` runs. In a loop of your own use `tqdm`, which is installed with gradloop:
    `for x, y in tqdm(data)`.

    The speed does not include the first call of an epoch, in which the step may be traced. In an epoch that
    resumes in its middle, means and speed are of the steps after the resume.

    Args:
        file: where to write; None for the notebook or standard error.
        every_seconds: without a terminal, the time between lines within an epoch.

    Raises:
        TypeError: `file` is no open text file, or `every_seconds` no number.
        ValueError: `every_seconds` not above 0.

    Example:
        >>> import io, keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step, screen = loops.TrainStep(model, "mse", "sgd"), io.StringIO()
        >>> data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        >>> _ = loops.train(step, data, epochs=1, callbacks=[loops.ProgressBar(screen)])
        >>> screen.getvalue().startswith("Epoch 1/1: 2/2 [00:0")
        True
    """

    def __init__(self, file: TextIO | None = None, *, every_seconds: float = 30.0) -> None:
        super().__init__()
        if file is not None and not _takes_text(file):
            raise TypeError(f"`file` must be an open text file, not {file!r}: give `open(path, 'w')`.")
        self._file = file
        self._every_seconds = real_number("every_seconds", every_seconds, above=0)
        self._display: Display | None = None  # while a run is shown
        self._label: str | None = None  # of the epoch that runs

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        # A program without a terminal, such as `pythonw`, may have no standard error.
        if self._display is None and is_chief() and not (self._file is None is sys.stderr):
            self._display = make_display(self._file, sys.stderr, self._every_seconds)
        self._label = f"Epoch {epoch + 1}/{self.params.get('epochs')}"
        self._total = self.params.get("steps")
        self._sums: dict[str, tuple[float, int]] = {}
        self._done = 0
        self._began = time.monotonic()
        # Number of steps and time: at the start of the speed measurement, and after the last call.
        self._rate_start = self._last = 0, self._began
        self._calls = 0
        self._show()

    def on_epoch_resumed(self, batches: int) -> None:
        self._done = batches
        self._rate_start = self._last = batches, self._began

    def on_train_steps_end(self, first: int, values: dict[str, Array]) -> None:
        step = self.train_step
        reductions = {} if step is None else step.loss_and_metrics.reductions
        for name, array in values.items():
            # The NaN of a skipped step is left out, as in the means of the epoch.
            finite = array[np.isfinite(array)].astype(np.float64)
            total, count = self._sums.get(name, (0.0, 0))
            if reductions.get(name) == "max" and len(finite):
                self._sums[name] = float(finite.max(initial=total if count else -math.inf)), 1
            else:
                self._sums[name] = total + float(finite.sum()), count + len(finite)
        self._done += len(values["loss"])
        self._calls += 1
        if self._calls == 2:
            self._rate_start = self._last
        self._last = self._done, time.monotonic()
        if self._done != self._total:  # else validation or the end of the epoch is shown next
            self._show()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self._test_began = time.monotonic()
        self.on_test_steps_end(0, None)

    def on_test_steps_end(self, done: int, total: int | None) -> None:
        if self._display is not None:
            self._display.show(lambda: self._validation(done, total))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not self._calls and self._total:  # in `fit`, which has no hook for many steps
            self._done = self._total
        self._end(logs or {})

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._label is not None:  # an epoch that did not end
            self._end(self._means())
        self._display = None

    def _end(self, values: dict[str, float]) -> None:
        if self._display is not None and self._label is not None:
            self._display.end(self._progress(values, ended=True))
        self._label = None

    def _show(self) -> None:
        if self._display is not None:
            self._display.show(lambda: self._progress(self._means()))

    def _means(self) -> dict[str, float]:
        return {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}

    def _progress(self, values: dict[str, float], ended: bool = False) -> Progress:
        steps, seconds = (last - since for last, since in zip(self._last, self._rate_start))
        rate = steps / seconds if steps and seconds > 0 else None
        seconds = time.monotonic() - self._began
        return Progress(str(self._label), self._done, self._total, seconds, rate, values, ended)

    def _validation(self, done: int, total: int | None) -> Progress:
        seconds = time.monotonic() - self._test_began
        rate = done / seconds if done and seconds > 0 else None
        return Progress(f"{self._label} validation", done, total, seconds, rate, self._means())


def _takes_text(file: object) -> bool:
    """Whether `file` is open for writing text."""
    if not (hasattr(file, "write") and hasattr(file, "isatty")) or getattr(file, "closed", False):
        return False
    binary = isinstance(file, (io.RawIOBase, io.BufferedIOBase)) or "b" in str(getattr(file, "mode", ""))
    return not binary and bool(getattr(file, "writable", lambda: True)())
