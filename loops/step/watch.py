"""What to measure of a step beside its loss and metrics, and the measurements."""

from __future__ import annotations

from typing import NamedTuple

from ...optim import FilterLike
from ...optim.common.types import Array
from ..device.read_clock import StepTime


class Watch(NamedTuple):
    """What to measure of a training step, and on which steps.

    Attributes:
        variables: what to measure norms of: "groups", "variables", or a filter as `optim.select` takes it;
            None for no norms.
        every: steps whose number is a multiple of it are watched; with `accumulate`, the next step that makes
            an update. (An update that is made when the data ends is not measured.)
        histograms: a filter of the variables whose weights and gradients become histograms; None for none.
        histograms_every: as `every`, for histograms.
        activations: a filter of the layers whose outputs are measured; None for none. A layer with variables
            matches if one of them does; a layer without variables, if a variable under its name would.

    Raises:
        TypeError, ValueError: when training begins: an interval that is no whole number of at least 1.
        SelectionError: when training begins: a filter that matches nothing.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> class Norms(loops.StepsCallback):
        ...     def watch(self):
        ...         return loops.Watch(every=2)
        ...     def on_measured(self, number, measured):
        ...         print(number, round(measured.scalars["grad_norm/all"], 1))
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
        >>> data = loops.Batches(np.ones((8, 1)), np.zeros((8, 1)), batch_size=2)
        >>> step = loops.TrainStep(model, "mse", "sgd")
        >>> _ = loops.train(step, data, epochs=1, callbacks=[Norms()])
        2 2.7
        4 2.5
    """

    variables: str | FilterLike | None = "groups"
    every: int = 10
    histograms: FilterLike | None = None
    histograms_every: int = 1000
    activations: FilterLike | None = None


class Histogram(NamedTuple):
    """Counts of values in buckets.

    Attributes:
        counts: float64, (buckets,).
        edges: float64, (buckets + 1,).
    """

    counts: Array
    edges: Array


class Measured(NamedTuple):
    """The measurements of a watched step.

    Attributes:
        scalars: by tag: `rate/GROUP`, `grad_norm/GROUP` and so on.
        histograms: by tag: `weights/NAME`, `gradients/NAME`.
        time: when the step ran, and how long it waited for its batch; None if time was not measured.
    """

    scalars: dict[str, float]
    histograms: dict[str, Histogram]
    time: StepTime | None = None
