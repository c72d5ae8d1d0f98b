"""Loss and accuracy as a picture: of one run, or of several beside each other."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .command_line import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN_COLOUR = "#9aa5b1"
TEST_COLOUR = "#0b6e99"
# Seven that colour-blind readers can tell apart: Paul Tol's "bright" scheme, with black for its grey.
PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#222222")


def save(path: Path, draw: Callable[[Path], None]) -> None:
    """Draws a picture and prints how to open it; without matplotlib, how to get that."""
    if importlib.util.find_spec("matplotlib") is None:
        print('Curves       left out, since matplotlib is missing: pip install "gradloop[data]"')
    else:
        draw(path)
        print(f"Curves       xdg-open {shown(path)}")


def draw(history: Mapping[str, Sequence[float]], path: Path, title: str, held_out: str = "test") -> None:
    """Writes a PNG with one panel for the loss and one for the accuracy, over the epochs.

    The history has ``loss``, ``accuracy``, and as ``val_loss``, ``val_accuracy`` those of `held_out` images.
    """
    figure = _figure((10, 4.2), title)
    loss, accuracy = figure.subplots(1, 2)
    _panel(loss, "Loss (cross-entropy)", history["loss"], history["val_loss"], "{:.3f}", held_out)
    train, test = ([100 * value for value in history[name]] for name in ("accuracy", "val_accuracy"))
    _panel(accuracy, "Accuracy (%)", train, test, "{:.1f} %", held_out)
    loss.set_ylim(bottom=0)
    figure.savefig(path)


def compare(
    histories: Mapping[str, Mapping[str, Sequence[float]]], colours: Sequence[str], path: Path, title: str
) -> None:
    """Writes a PNG with a panel each for loss and accuracy, in training and in validation.

    Each run, by its name in the legend, has what `draw` takes, and a colour; one may have ended early.
    """
    from matplotlib.ticker import LogLocator

    figure = _figure((11, 7), title)
    losses, accuracies = figure.subplots(2, 2, sharex=True)
    for axes, part, prefix in zip(losses, ("Training", "Validation"), ("", "val_"), strict=True):
        lines = [history[f"{prefix}loss"] for history in histories.values()]
        _lines(axes, f"{part} loss (cross-entropy)", lines, colours)
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e4 * low else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    # The first epochs differ by so much that they would hide how the later ones differ.
    late = []
    for axes, part, prefix in zip(accuracies, ("Training", "Validation"), ("", "val_"), strict=True):
        lines = [[100 * v for v in history[f"{prefix}accuracy"]] for history in histories.values()]
        _lines(axes, f"{part} accuracy (%)", lines, colours)
        axes.set_xlabel("epoch")
        late += [value for line in lines for value in line[len(line) // 4 :]]
    margin = 0.05 * (max(late) - min(late)) or 1
    for axes in accuracies:
        axes.set_ylim(min(late) - margin, max(late) + margin)

    final = [history["val_accuracy"][-1] for history in histories.values()]
    handles, labels = losses[0].get_lines(), list(histories)
    order = sorted(range(len(final)), key=lambda run: -final[run])
    figure.legend(
        [handles[run] for run in order],
        [f"{100 * final[run]:.1f} %  {labels[run]}" for run in order],
        title="Final validation accuracy",
        alignment="left",
        loc="outside right upper",
        frameon=False,
    )
    figure.savefig(path)


def ranges(runs: Mapping[str, Sequence[Sequence[float]]], path: Path, title: str) -> None:
    """Writes a PNG of accuracies over the epochs: for each name the mean of its runs, and their range.

    Each name, shown in the legend, has a list of test accuracies by epoch for each run; all are as long.
    """
    import numpy as np

    figure = _figure((8, 4.5), title)
    axes = figure.subplots()
    for colour, (name, several) in zip(PALETTE, runs.items()):
        values = 100 * np.array(several)
        mean, epochs = values.mean(axis=0), np.arange(1, values.shape[1] + 1)
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        _line(axes, mean, colour, f"{mean[-1]:.1f} %  {name}")
    _finish(axes, "Test accuracy (%)")
    axes.set_xlabel("epoch")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def dots(groups: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Writes a PNG with a column for each name: a dot for the accuracy of each run, a bar at the mean."""
    import numpy as np

    figure = _figure((8, 4.5), title)
    axes = figure.subplots()
    for column, (colour, values) in enumerate(zip(PALETTE, groups.values())):
        percent = 100 * np.array(values)
        across = column + np.linspace(-0.12, 0.12, len(percent)) * (len(percent) > 1)
        axes.plot(across, percent, "o", color=colour, markersize=6, alpha=0.7)
        axes.hlines(percent.mean(), column - 0.25, column + 0.25, color=colour, linewidth=2.5)
        at = (column + 0.28, percent.mean())
        axes.annotate(f"{percent.mean():.1f}", at, va="center", color=colour, fontweight="bold")
    _finish(axes, "")
    axes.set_xticks(range(len(groups)), list(groups))
    figure.savefig(path)


def _figure(size: tuple[float, float], title: str) -> Figure:
    """An empty figure, without pyplot: no window system, no global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return figure


def _lines(axes: Axes, label: str, lines: Sequence[Sequence[float]], colours: Sequence[str]) -> None:
    for values, colour in zip(lines, colours, strict=True):
        _line(axes, values, colour)
    _finish(axes, label)


def _line(axes: Axes, values: Sequence[float], colour: str, name: str | None = None) -> None:
    epochs = range(1, len(values) + 1)
    marker = "o" if len(values) <= 40 else None
    axes.plot(epochs, values, color=colour, linewidth=2, marker=marker, markersize=4, label=name)


def _panel(
    axes: Axes, label: str, train: Sequence[float], test: Sequence[float], shown: str, held_out: str
) -> None:
    _line(axes, train, TRAIN_COLOUR, "training")
    _line(axes, test, TEST_COLOUR, held_out)
    axes.annotate(
        shown.format(test[-1]),
        (len(test), test[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=TEST_COLOUR,
        fontweight="bold",
        annotation_clip=False,
    )
    _finish(axes, label)
    axes.set_xlabel("epoch")
    axes.legend(frameon=False)


def _finish(axes: Axes, label: str) -> None:
    """Title, whole epochs, a quiet grid."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(label, loc="left", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.margins(x=0.06)
