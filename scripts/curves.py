"""Loss and accuracy of a run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TRAIN_COLOUR = "#9aa5b1"
TEST_COLOUR = "#0b6e99"


def draw(history: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Writes a PNG with one panel for the loss and one for the accuracy, over the epochs.

    Args:
      history: ``loss``, ``accuracy``, ``val_loss`` and ``val_accuracy``, one value an epoch.
      path: The file to write.
      title: What stands above both panels.
    """
    # The figure alone, without pyplot: no window system, no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=150, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    loss, accuracy = figure.subplots(1, 2)
    _panel(loss, "Loss (cross-entropy)", history["loss"], history["val_loss"], "{:.3f}")
    _panel(
        accuracy,
        "Accuracy (%)",
        [100 * value for value in history["accuracy"]],
        [100 * value for value in history["val_accuracy"]],
        "{:.1f} %",
    )
    loss.set_ylim(bottom=0)
    figure.savefig(path)


def _panel(
    axes: Any, label: str, train: Sequence[float], test: Sequence[float], shown: str
) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = range(1, len(train) + 1)
    marker = "o" if len(train) <= 40 else None
    for values, colour, name in ((train, TRAIN_COLOUR, "training"), (test, TEST_COLOUR, "test")):
        axes.plot(
            epochs, values, color=colour, linewidth=2, marker=marker, markersize=4, label=name
        )
    axes.annotate(
        shown.format(test[-1]),
        (epochs[-1], test[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        color=TEST_COLOUR,
        fontweight="bold",
        annotation_clip=False,
    )
    axes.set_title(label, loc="left", fontsize=11)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.margins(x=0.06)
    axes.legend(frameon=False)
