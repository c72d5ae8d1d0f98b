"""The values that steps recorded, and their means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...optim.common.types import Array, Json
from ..support.scalars import Columns
from .metrics import StepMetric


class Records:
    """What the steps of a call recorded: a row for each, which is the `Record` of `LossAndMetrics`.

    If a call ends with a `NonFiniteError` or by `Ctrl-C`, the error's `records` has the steps before it.

    Args:
        rows: float32 array, (steps, 2 + 2 * metrics + columns).
        metrics: what their columns are of.
        columns: what the last ones are of: scalars that the user's code recorded, NaN where a step did not.
        measured: what was measured in some of the steps, with their numbers in the call, from 0.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> head = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
        >>> model = keras.Sequential([keras.Input((1,)), head])
        >>> step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.25))
        >>> x = np.array([[1.0], [1.0], [np.nan]])
        >>> data = loops.Batches(x, np.zeros((3, 1)), batch_size=1, shuffle=False)
        >>> try:
        ...     values = step.run(iter(data), 3)
        ... except loops.NonFiniteError as error:
        ...     values = error.records.values()  # as `run` would have returned them
        >>> values["loss"].tolist()
        [1.0, 0.25]
    """

    def __init__(
        self,
        rows: Array,
        metrics: Sequence[StepMetric],
        columns: Columns = (),
        measured: Sequence[tuple[int, Any]] = (),
    ) -> None:
        self._rows = rows
        self.measured = measured
        self._metrics = list(metrics)
        first = 2 + 2 * len(self._metrics)
        self._recorded = {column: rows[:, first + number] for number, column in enumerate(columns)}

    def __len__(self) -> int:
        return len(self._rows)

    def values(self) -> dict[str, Array]:
        """Each step's own values: name -> float32 array, (steps,)."""
        values = {"loss": self._rows[:, 0]}
        for column, metric in enumerate(self._metrics):
            if not metric.shown:
                continue
            total, weight = self._rows[:, 2 + 2 * column], self._rows[:, 3 + 2 * column]
            values[metric.name] = np.divide(total, weight, out=np.zeros_like(total), where=weight != 0)
        return values | {column.name: array for column, array in self._recorded.items()}


class RunningMeans:
    """Running means over the examples of all records added, in float64.

    The loss is weighted by what it was divided by, a metric by its own weights, so a short last batch, or one
    with much padding, counts for what it holds, and a step that was skipped not at all. A metric with state
    has its last value. What the user's code recorded has the mean over the steps that did so, or with the
    reduction "max" the largest.

    Attributes:
        skipped: how many of the steps were skipped.
    """

    def __init__(self, metrics: Iterable[StepMetric]) -> None:
        self.skipped = 0
        self._metrics = list(metrics)
        self._any = False
        self._totals = np.zeros(1 + len(self._metrics))
        self._weights = np.zeros(1 + len(self._metrics))
        # Name -> reduction, sum or maximum, number of steps.
        self._recorded: dict[str, tuple[str, float, int]] = {}

    def add(self, records: Records) -> None:
        rows = records._rows.astype(np.float64)
        self._any = self._any or len(rows) > 0
        taken = rows[:, 1] >= 0  # less than 0 is a skipped step
        self.skipped += len(rows) - int(taken.sum())
        rows = rows[taken]
        for (name, reduce), array in records._recorded.items():
            self._add_recorded(name, reduce, array[taken & ~np.isnan(array)].astype(np.float64))
        if not len(rows):
            return
        counted = rows[rows[:, 1] > 0]  # a batch without examples has no loss
        self._totals[0] += counted[:, 0] @ counted[:, 1]
        self._weights[0] += counted[:, 1].sum()
        for column, metric in enumerate(self._metrics):
            total, weight = rows[:, 2 + 2 * column], rows[:, 3 + 2 * column]
            if metric.stateful is not None:
                self._totals[1 + column], self._weights[1 + column] = total[-1], weight[-1]
            else:
                self._totals[1 + column] += total.sum()
                self._weights[1 + column] += weight.sum()

    def _add_recorded(self, name: str, reduce: str, values: Array) -> None:
        _, total, count = self._recorded.get(name, (reduce, -math.inf if reduce == "max" else 0.0, 0))
        total = float(max([total, *values])) if reduce == "max" else total + float(values.sum())
        self._recorded[name] = reduce, total, count + len(values)

    def state(self) -> dict[str, Json]:
        """Returns the sums as JSON, for `set_state`."""
        sums = {"totals": self._totals.tolist(), "weights": self._weights.tolist()}
        return {
            "any": self._any,
            "skipped": self.skipped,
            **sums,
            "recorded": {name: [*sums] for name, sums in self._recorded.items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Sets the sums to what `state` returned for the same metrics."""
        self._any = state["any"]
        self.skipped = state.get("skipped", 0)  # which older checkpoints lack
        self._totals, self._weights = np.array(state["totals"]), np.array(state["weights"])
        recorded = state.get("recorded", {})  # nor this
        self._recorded = {name: (reduce, total, count) for name, (reduce, total, count) in recorded.items()}

    def result(self) -> dict[str, float]:
        """Returns name -> mean; nothing before anything was added, NaN where all steps were skipped."""
        if not self._any:
            return {}
        names = ["loss", *(metric.name if metric.shown else "" for metric in self._metrics)]
        none = 0.0 if self._weights[0] else math.nan
        means = {
            name: float(total / weight) if weight else none
            for name, total, weight in zip(names, self._totals, self._weights)
            if name
        }
        for name, (reduce, total, count) in self._recorded.items():
            means[name] = math.nan if not count else total if reduce == "max" else total / count
        return means
