"""Measures a watched step on the device: its update, histograms, and outputs of layers."""

from __future__ import annotations

from typing import NamedTuple

import keras

from ...optim.common.types import Array
from ..device.read_clock import ReadClock, StepTime
from ..update.measures import Measures
from ..update.step_update import StepUpdate
from .activations import Activations


class MeasureRequest(NamedTuple):
    """What to measure beside the update: variables for histograms, by name; layers, by path."""

    histograms: tuple[str, ...]
    activations: tuple[str, ...]


class Meters(NamedTuple):
    """Objects that measure on the device; `activations` is None if no layer is measured."""

    measures: Measures
    activations: Activations | None
    clock: ReadClock

    @classmethod
    def of(cls, model: keras.Model, update: StepUpdate, request: MeasureRequest | None) -> Meters | None:
        """Makes the meters of a step; None for a step that is not watched."""
        if request is None:
            return None
        activations = Activations(model, request.activations) if request.activations else None
        return cls(update.new_measures(request.histograms), activations, ReadClock())

    def read(self) -> Readings:
        """The measurements of the last step."""
        time = self.clock.time()  # first, as what follows takes time
        values = self.measures.values.value().numpy()
        taken = bool(values[-1] == 1.0)
        histograms, activations = self.measures.histograms, self.activations
        return Readings(
            taken,
            self.measures,
            values,
            histograms.read() if taken and histograms is not None else {},
            activations.read() if taken and activations is not None else {},
            time,
        )


class Readings(NamedTuple):
    """The measurements of a watched step.

    Attributes:
        taken: whether the step made an update; otherwise nothing was measured.
        measures, values: `measures.scalars(values, ...)` gives rates and norms of the update.
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
