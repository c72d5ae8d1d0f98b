"""The result of a range test: the loss against the learning rate, and the rate to use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LRCurve:
    """What a range test measured: one point for each rate that it tried.

    Attributes:
        rates: float64, (points,), ascending.
        losses: the loss of the batch at each rate, float64, (points,).
        smoothed: their moving average, float64, (points,).

    Example:
        >>> rates = np.geomspace(1e-4, 1, 30)
        >>> losses = 1 - np.tanh(np.log10(rates / 1e-2)) + 40 * rates**2
        >>> round(LRCurve(rates, losses, losses).suggestion, 3)
        0.009
    """

    rates: Floats
    losses: Floats
    smoothed: Floats

    @property
    def suggestion(self) -> float:
        """The rate at which the loss falls most steeply against the logarithm of the rate.

        The slope is that of the losses smoothed by a centred Gaussian, whose standard deviation is a
        fifteenth of the points. (`smoothed` lags behind by some 50 batches: it falls most steeply where the
        losses are at their lowest, just before they diverge.) Only rates below that of the smoothed minimum
        count, without the first tenth of the points.

        Raises:
            ValueError: the loss never fell by more than its noise.
        """
        first = max(1, len(self.rates) // 10)
        start = self.losses[:first].mean()
        # Losses that diverge would raise the mean of many points before them.
        losses = np.minimum(self.losses, start + (start - self.losses.min()))
        mean = _centred_mean(losses, len(losses) / 15)
        lowest = first + int(np.argmin(mean[first:])) if len(mean) > first else first
        # A fall below the precision of float32 does not count either.
        scatter = max((losses - mean)[: lowest + 1].std(), 1e-7 * abs(start))
        if lowest == first or mean[first] - mean[lowest] <= scatter:
            raise ValueError(
                f"the loss never fell by more than its scatter between the rates {self.rates[0]:.3g} and "
                f"{self.rates[-1]:.3g}, so none can be suggested: test other rates, or take more `steps`, "
                "and look at `plot()`"
            )
        slopes = np.gradient(mean, np.log(self.rates))
        return float(self.rates[first + int(np.argmin(slopes[first:lowest]))])

    def plot(self, path: str | os.PathLike[str] | None = None, *, axes: Axes | None = None) -> Figure:
        """Draws the losses, their moving average and the suggestion, over a logarithmic axis of rates.

        Args:
            path: file to write, such as "curve.png"; None for none.
            axes: matplotlib axes to draw in; None for a new figure.

        Returns:
            The `matplotlib.figure.Figure`, which a notebook shows.

        Raises:
            ImportError: matplotlib is missing.
        """
        try:
            # Without pyplot, which would need a window system and keep the figure in a global list.
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                '`plot` needs matplotlib, which does not import here: pip install "gradloop[data]"'
            ) from error
        if axes is None:
            axes = Figure(figsize=(7, 4.2), dpi=150, layout="constrained").subplots()
        axes.plot(self.rates, self.losses, color="#9aa5b1", linewidth=1, label="loss of a batch")
        axes.plot(self.rates, self.smoothed, color="#0b6e99", linewidth=2, label="moving average")
        try:
            suggestion = self.suggestion
        except ValueError:
            pass  # there is no line to draw
        else:
            label = f"suggestion: {suggestion:.2g}"
            axes.axvline(suggestion, color="#c2410c", linewidth=1.5, linestyle="--", label=label)
        axes.set_xscale("log")
        # Limited to the losses before divergence, which would flatten the rest of the curve.
        low, high = self.losses.min(), self.smoothed[: self.smoothed.argmin() + 1].max()
        margin = 0.3 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure = cast("Figure", axes.figure)
        if path is not None:
            figure.savefig(path)
        return figure


def _centred_mean(values: Floats, deviation: float) -> Floats:
    """A Gaussian mean around each value; at the ends, of the values that there are."""
    offsets = np.arange(1 - len(values), len(values))
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    totals = np.convolve(weights, np.ones_like(values), "valid")
    return np.convolve(weights, values, "valid") / totals
