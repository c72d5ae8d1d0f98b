"""A progress bar."""

from __future__ import annotations

import math
import os
import sys
from typing import Any, TextIO

import numpy as np
from tqdm.auto import tqdm

from ...optim.common.types import Array
from ..distribute.cluster import is_chief
from .steps_callback import StepsCallback

_DONE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
_RUNNING = "{desc}: {n_fmt} steps [{elapsed}, {rate_fmt}{postfix}]"


class ProgressBar(StepsCallback):
    """A tqdm bar for each epoch: steps done, speed, means over the steps so far, and its logs at its end.

    Of several workers, one shows it. In an epoch that resumes in its middle, the means are of the steps
    since.

    Args:
        file: where to write; None for standard error, as tqdm does.

    Example:
        >>> import io, keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step, screen = loops.TrainStep(model, "mse", "sgd"), io.StringIO()
        >>> data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        >>> _ = loops.train(step, data, epochs=1, callbacks=[loops.ProgressBar(screen)])
        >>> "Epoch 1/1: 2/2 [" in screen.getvalue()
        True
    """

    def __init__(self, file: TextIO | None = None) -> None:
        super().__init__()
        self._file = file
        self._bar: Any = None  # a tqdm; None before the first epoch and after each

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        file = self._file or sys.stderr
        self._bar = tqdm(
            total=self.params.get("steps"),
            desc=f"Epoch {epoch + 1}/{self.params.get('epochs')}",
            unit="step",
            file=file,
            disable=not is_chief(),
            **({"ncols": 80, "nrows": 24} if _has_no_size(file) else {"dynamic_ncols": True}),
            # An update comes once in a fraction of a second, so that each may show.
            miniters=1,
            mininterval=0.05,
        )
        self._sums: dict[str, tuple[float, int]] = {}

    def on_epoch_resumed(self, batches: int) -> None:
        self._bar.initial = self._bar.n = batches  # as initial ones, they do not count for the speed

    def on_train_steps_end(self, first: int, values: dict[str, Array]) -> None:
        for name, array in values.items():
            # A step that was skipped shows as NaN among finite ones: it is in no mean of the epoch either.
            finite = array[np.isfinite(array)].astype(np.float64)
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + float(finite.sum()), count + len(finite))
        means = {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}
        self._show(means)
        self._bar.update(len(values["loss"]))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        # The line that stays has no bar, and may wrap, so that it loses no values at its end.
        self._bar.bar_format = _RUNNING if self._bar.total is None else _DONE
        self._bar.dynamic_ncols, self._bar.ncols = None, None
        self._show(logs or {})
        self._close()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._close()

    def _show(self, values: dict[str, float]) -> None:
        ordered = sorted(values.items(), key=lambda item: _order(item[0]))
        text = " ".join(f"{name}={value:.4g}" for name, value in ordered)
        self._bar.set_postfix_str(text, refresh=False)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None


def _has_no_size(file: TextIO) -> bool:
    """Whether this is a terminal of 0 columns, as in some containers, where tqdm would show nothing."""
    try:
        return os.get_terminal_size(file.fileno()).columns == 0
    except (AttributeError, OSError, ValueError):  # no terminal; tqdm handles that
        return False


def _order(name: str) -> tuple[bool, bool]:
    """Sorts training before validation, and the loss first in each."""
    return name.startswith("val_"), name.removeprefix("val_") != "loss"
