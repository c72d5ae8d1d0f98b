"""The suggestion by its definition, and the picture."""

import sys

import numpy as np
import pytest

from gradloop.optim import LRCurve


def curve(losses, rates=None):
    losses = np.asarray(losses, "float64")
    rates = np.geomspace(1e-5, 1, len(losses)) if rates is None else np.asarray(rates)
    return LRCurve(rates, losses, losses)


def test_suggests_the_steepest_fall_against_the_logarithm():
    rates = np.geomspace(1e-6, 1, 121)
    place = 3e-3  # of the steepest fall: the middle of a tanh of log(rate)
    losses = 2 - np.tanh(np.log(rates / place)) + np.exp(8 * np.log10(rates / 0.3))
    found = curve(losses, rates).suggestion
    assert abs(np.log(found / place)) < 1.5 * np.log(rates[1] / rates[0])
    assert found < rates[np.argmin(losses)]


def test_the_suggestion_by_its_definition():
    rates, noise = np.geomspace(1e-5, 10, 60), np.random.default_rng(3).normal(size=60)
    losses = 2.3 - 1.2 / (1 + (3e-3 / rates)) + 0.03 * noise + np.where(rates > 2, 1e9, 0)
    start = np.mean(losses[:6])
    capped = [min(loss, 2 * start - min(losses)) for loss in losses]
    mean = []
    for i in range(60):
        weights = [np.exp(-((i - j) ** 2) / (2 * 4.0**2)) for j in range(60)]  # 60 / 15
        mean.append(np.average(capped, weights=weights))
    slopes = {
        i: (mean[i + 1] - mean[i - 1]) / np.log(rates[i + 1] / rates[i - 1])
        for i in range(6, int(np.argmin(mean)))
    }
    assert curve(losses, rates).suggestion == rates[min(slopes, key=slopes.get)]


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_explosions_move_the_suggestion_little(seed):
    rates, rng = np.geomspace(1e-6, 10, 100), np.random.default_rng(seed)
    losses = 2.3 - 1.5 / (1 + (1e-2 / rates) ** 2) + rng.normal(size=100) * 0.1
    losses[rates > 0.5] = rng.choice([5.0, 1e3, 1e30], size=(rates > 0.5).sum())
    assert 2e-3 < curve(losses, rates).suggestion < 5e-2


def test_the_ends_and_what_follows_the_minimum_do_not_count():
    plunges = curve([9, 8, *np.linspace(3, 2, 9), *np.linspace(2, 2.9, 8), 2.8])
    assert plunges.rates[2] <= plunges.suggestion <= plunges.rates[9]
    falling = curve(-np.geomspace(1, 100, 20))  # ever more steeply, to the last point
    assert falling.rates[-4] <= falling.suggestion <= falling.rates[-2]


NEVER_FALLS = [
    *(np.linspace(1, 2, 30), np.ones(30), [1.0], [1.0, 0.5], [9, *range(1, 20)]),
    *(2.3 + 0.05 * np.random.default_rng(seed).normal(size=100) for seed in range(5)),
]


@pytest.mark.parametrize("losses", NEVER_FALLS)
def test_a_loss_that_never_falls(losses):
    with pytest.raises(ValueError, match="the loss never fell by more than its scatter between the rates"):
        assert curve(losses).suggestion


def test_plots_to_a_file_and_in_given_axes(tmp_path):
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    found = curve(2 - np.tanh(np.linspace(-3, 3, 50)))
    figure = found.plot(tmp_path / "curve.png")
    assert isinstance(figure, Figure)
    pixels = imread(tmp_path / "curve.png")
    assert pixels.shape[1] > pixels.shape[0] > 400
    axes = Figure().subplots(1, 2)[1]
    assert found.plot(axes=axes) is axes.figure
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "learning rate"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["loss of a batch", "moving average", f"suggestion: {found.suggestion:.2g}"]


def test_plots_without_a_suggestion_and_without_one_outlier_flattening_the_rest():
    losses = np.linspace(1, 2, 30)
    losses[-1] = 1e6
    (axes,) = LRCurve(np.geomspace(1e-5, 1, 30), losses, np.linspace(1, 2, 30)).plot().axes
    assert axes.get_ylim()[1] < 3
    assert len(axes.get_legend().get_texts()) == 2
    assert curve(np.ones(5)).plot().axes[0].get_ylim() == (0, 2)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'`plot` needs matplotlib.*pip install "gradloop\[data\]"'):
        curve(np.ones(5)).plot()
