"""The charts of Custom Scalars, and what they match."""

import re

from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

CHARTS = {
    "loss": ["epoch/loss"],
    "accuracy": ["epoch/accuracy"],
    "learning rate": ["rate/body", "rate/head/1"],
    "gradient norm": ["grad_norm/all"],
    "update ratio": ["update_ratio/body"],
    "weight norm": ["weight_norm/body"],
}


def test_one_chart_of_each_quantity(logged):
    [(step, value)] = logged.values("train", "custom_scalars")["custom_scalars__config__"]
    assert step == 1 and value.metadata.plugin_data.plugin_name == "custom_scalars"
    layout = Layout.FromString(value.tensor.string_val[0])
    patterns = {chart.title: chart.multiline.tag for category in layout.category for chart in category.chart}
    assert patterns.keys() == CHARTS.keys()
    tags = [tag for tags in CHARTS.values() for tag in tags]
    for title, wanted in CHARTS.items():
        # As TensorBoard does it.
        assert [tag for tag in [*tags, "epoch/loss_2"] if re.match(*patterns[title], tag)] == wanted
