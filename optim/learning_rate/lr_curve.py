"""The loss against the learning rate, and the rate that it suggests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LRCurve:
    """What a range test measured: one point for each rate that ran.

    Attributes:
        rates: float64, (points,), ascending.
        losses: loss of the batch that trained at each rate, float64, (points,).
        smoothed: their running mean, float64, (points,).

    Example:
        >>> rates = np.geomspace(1e-4, 1, 30)
        >>> losses = 1 - np.tanh(np.log10(rates / 1e-2)) + 40 * rates**2
        >>> round(LRCurve(rates, losses, losses).suggestion, 3)
        0.009
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]

    @property
    def suggestion(self) -> float:
        """The rate at which the loss falls most steeply against the logarithm of the rate.

        The slope is that of a mean of the losses around each point, by a Gaussian whose standard deviation
        is a fifteenth of the points. (The running mean lags behind by some 50 batches: it falls most steeply
        where the losses are at their lowest, at the edge of divergence.) The mean's minimum and what comes
        after it do not count, nor do the first tenth of the points and the last one.

        Raises:
            ValueError: the loss never fell by more than its scatter.
        """
        first = max(1, len(self.rates) // 10)
        start = self.losses[:first].mean()
        # Losses that explode would reach far back through the mean.
        losses = np.minimum(self.losses, start + (start - self.losses.min()))
        mean = _centred_mean(losses, len(losses) / 15)
        lowest = first + int(np.argmin(mean[first:])) if len(mean) > first else first
        # Nor do float32 losses tell of smaller falls.
        scatter = max((losses - mean)[: lowest + 1].std(), 1e-7 * abs(start))
        if lowest == first or mean[first] - mean[lowest] <= scatter:
            raise ValueError(
                f"the loss never fell by more than its scatter between the rates {self.rates[0]:.3g} and "
                f"{self.rates[-1]:.3g}, so none can be suggested: test other rates, or take more `steps`, "
                "and look at `plot()`"
            )
        slopes = np.gradient(mean, np.log(self.rates))
        return float(self.rates[first + int(np.argmin(slopes[first:lowest]))])

    def plot(self, path: str | os.PathLike[str] | None = None, *, axes: Any = None) -> Any:
        """Draws the losses, their running mean and the suggestion, over a logarithmic axis of rates.

        Args:
            path: file to write, such as "curve.png"; None for none.
            axes: matplotlib axes to draw in; None for a figure of its own.

        Returns:
            The `matplotlib.figure.Figure`, which a notebook shows.

        Raises:
            ImportError: matplotlib is missing.
        """
        try:
            # The figure alone, without pyplot: no window system, no global state.
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                '`plot` needs matplotlib, which does not import here: pip install "gradloop[data]"'
            ) from error
        if axes is None:
            axes = Figure(figsize=(7, 4.2), dpi=150, layout="constrained").subplots()
        axes.plot(self.rates, self.losses, color="#9aa5b1", linewidth=1, label="loss of a batch")
        axes.plot(self.rates, self.smoothed, color="#0b6e99", linewidth=2, label="running mean")
        try:
            suggestion = self.suggestion
        except ValueError:
            pass  # a curve without a suggestion is drawn without the line
        else:
            label = f"suggestion: {suggestion:.2g}"
            axes.axvline(suggestion, color="#c2410c", linewidth=1.5, linestyle="--", label=label)
        axes.set_xscale("log")
        # What explodes would flatten all the rest.
        low, high = self.losses.min(), self.smoothed[: self.smoothed.argmin() + 1].max()
        margin = 0.3 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        if path is not None:
            axes.figure.savefig(path)
        return axes.figure


def _centred_mean(values: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    """A Gaussian mean around each value, over what there is at the ends."""
    offsets = np.arange(1 - len(values), len(values))
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    totals = np.convolve(weights, np.ones_like(values), "valid")
    return np.convolve(weights, values, "valid") / totals
