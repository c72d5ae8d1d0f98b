"""The charts of the tab Custom Scalars: all groups of a quantity in one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout as LayoutMessage
from tensorboard.plugins.custom_scalar.layout_pb2 import MultilineChartContent

from .content import Board, Content
from .values import Value, plugin_value

_GROUPS = {
    "learning rate": "rate/",
    "gradient norm": "grad_norm/",
    "update ratio": "update_ratio/",
    "weight norm": "weight_norm/",
}


class Layout(Content):
    """The layout of the charts, in the run `train`."""

    def on_session_begin(self, board: Board, step: int, epoch: int) -> None:
        names = ["loss", *(metric.name for metric in board.train_step.loss_and_metrics.metrics)]
        board.files.write_values("train", epoch, [layout_value(names)])


def layout_value(names: Sequence[str]) -> Value:
    """The layout of the charts, written once into any run; `names` are the loss and the metrics."""
    per_epoch = [_chart(name, f"epoch/{re.escape(name)}$") for name in names]
    per_group = [_chart(title, prefix) for title, prefix in _GROUPS.items()]
    both = Category(title="training and validation", chart=per_epoch)
    layout = LayoutMessage(category=[both, Category(title="groups", chart=per_group)])
    return plugin_value("custom_scalars__config__", "custom_scalars", layout.SerializeToString())


def _chart(title: str, pattern: str) -> Chart:
    # TensorBoard matches the pattern at the start of the tags of all runs.
    return Chart(title=title, multiline=MultilineChartContent(tag=[pattern]))
