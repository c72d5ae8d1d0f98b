"""What measures a watched step: its update, its histograms, its layers."""

from __future__ import annotations

from typing import NamedTuple

import keras

from ...optim.common.types import Array
from ..device.read_clock import ReadClock, StepTime
from ..update.measures import Measures
from ..update.step_update import StepUpdate
from .activations import Activations


class Wanted(NamedTuple):
    """What a watched step measures beside the numbers of its update: names of variables, paths of layers."""

    histograms: tuple[str, ...]
    activations: tuple[str, ...]


class Meters(NamedTuple):
    """What measures, on the device; `activations` is None if no layer was asked for."""

    measures: Measures
    activations: Activations | None
    clock: ReadClock

    @classmethod
    def of(cls, model: keras.Model, update: StepUpdate, wanted: Wanted | None) -> Meters | None:
        """Makes those of a step; None for one that is not watched."""
        if wanted is None:
            return None
        activations = Activations(model, wanted.activations) if wanted.activations else None
        return cls(update.new_measures(wanted.histograms), activations, ReadClock())

    def read(self) -> Found:
        """What the last step was found to do."""
        time = self.clock.time()  # before anything else takes some
        values = self.measures.values.value().numpy()
        taken = bool(values[-1] == 1.0)
        histograms, activations = self.measures.histograms, self.activations
        return Found(
            taken,
            self.measures,
            values,
            histograms.read() if taken and histograms is not None else {},
            activations.read() if taken and activations is not None else {},
            time,
        )


class Found(NamedTuple):
    """What a watched step was found to do.

    Attributes:
        taken: whether it made an update; nothing was measured otherwise.
        measures, values: `measures.scalars(values, ...)` are the numbers of the update.
        histograms: as `Histograms.read` gives them.
        activations: as `Activations.read` gives them.
        time: when the step ran.
    """

    taken: bool
    measures: Measures
    values: Array
    histograms: dict[str, tuple[Array, Array]]
    activations: dict[str, dict[str, float]]
    time: StepTime
