"""The measurements of watched steps: scalars and histograms."""

from __future__ import annotations

import math
import warnings

import numpy as np

from ...optim import named_variables
from ...optim.common.types import Array
from ..step.trainable import plan_of
from ..step.watch import Histogram, Measured
from .content import Board, Content
from .values import Value, plugin_value


class MeasuredValues(Content):
    """The tags of `Measured`, in the run `steps`."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] | None = None  # of the variables, by name; None before first use
        self._warned = False

    def on_train_begin(self, board: Board) -> None:
        self._sizes = None
        plan = None if board.train_step is None else plan_of(board.train_step)
        if plan is not None and "all" in plan.groups and len(plan.groups) > 1:
            warnings.warn(
                "The optimizer's plan has a group 'all': `grad_norm/all` is the norm of the gradients of all "
                "groups together, and not its own. Give the group another name.",
                stacklevel=2,
            )

    def on_measured(self, board: Board, number: int, measured: Measured) -> None:
        if measured.scalars:
            columns = {tag: [value] for tag, value in measured.scalars.items()}
            board.files.write_scalars("steps", [number], columns)
        if measured.histograms:
            self._warn_of_missing_values(board, number, measured.histograms)
            drawn = [histogram_value(tag, *histogram) for tag, histogram in measured.histograms.items()]
            board.files.write_values("steps", number, drawn)

    def _warn_of_missing_values(self, board: Board, number: int, histograms: dict[str, Histogram]) -> None:
        """Warns, once, if a histogram lacks elements of its variable or gradient (NaN or infinite)."""
        if self._sizes is None:
            self._sizes = {name: math.prod(v.shape) for name, v in named_variables(board.model).items()}
        for tag, histogram in histograms.items():
            size = self._sizes.get(tag.partition("/")[2], 0)
            missing = size - int(histogram.counts.sum())
            if missing > 0 and not self._warned:
                self._warned = True
                warnings.warn(
                    f"The histogram {tag!r} of step {number} is drawn without {missing} of {size} values, "
                    "which are NaN or infinite; later ones do not warn. To end training at the "
                    'first, pass `on_nonfinite="raise"`.',
                    stacklevel=2,
                )


def histogram_value(tag: str, counts: Array, edges: Array) -> Value:
    """A value for TensorBoard's plugin of histograms: rows of `[left, right, count]`."""
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1, dtype=np.float64)
    return plugin_value(tag, "histograms", buckets)
