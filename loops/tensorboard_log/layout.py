"""The charts of the tab Custom Scalars: all groups of a quantity in one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout as LayoutMessage
from tensorboard.plugins.custom_scalar.layout_pb2 import MultilineChartContent

from .part import Board, Part
from .values import Value, plugin_value

_GROUPS = {
    "learning rate": "rate/",
    "gradient norm": "grad_norm/",
    "update ratio": "update_ratio/",
    "weight norm": "weight_norm/",
}


class Layout(Part):
    """The layout, in the run `train`."""

    def on_session(self, board: Board, step: int, epoch: int) -> None:
        names = ["loss", *(metric.name for metric in board.train_step.loss_and_metrics.metrics)]
        board.files.values("train", epoch, [layout_value(names)])


def layout_value(names: Sequence[str]) -> Value:
    """The layout, written once into any run: the names are of the loss and the metrics, with a chart each."""
    per_epoch = [_chart(name, f"epoch/{re.escape(name)}$") for name in names]
    per_group = [_chart(title, prefix) for title, prefix in _GROUPS.items()]
    both = Category(title="training and validation", chart=per_epoch)
    layout = LayoutMessage(category=[both, Category(title="groups", chart=per_group)])
    return plugin_value("custom_scalars__config__", "custom_scalars", layout.SerializeToString())


def _chart(title: str, pattern: str) -> Chart:
    # TensorBoard matches it at the start of the tags of every run.
    return Chart(title=title, multiline=MultilineChartContent(tag=[pattern]))
