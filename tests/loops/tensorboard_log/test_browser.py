"""TensorBoard on this machine over a log of ours, in a browser: every tab shows something.

The tabs are looked at twice: at what the server gives them, and at what chromium draws of it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from tests.loops.tensorboard_log.conftest import Digits

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PLUGIN = importlib.util.find_spec("tensorboard_plugin_profile")
pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore:`profile` .* lacks the plugin:UserWarning"),
]

# The name in the address, and what stands in the bar at the top.
TABS = {
    "timeseries": "Time Series",
    "scalars": "Scalars",
    "custom_scalars": "Custom Scalars",
    "images": "Images",
    "graphs": "Graphs",
    "histograms": "Histograms",
    "text": "Text",
    "hparams": "HParams",
}


class Server:
    """TensorBoard, and chromium to look at it."""

    def __init__(self, logs):
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--host", "127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--load_fast", "false"], stderr=subprocess.PIPE, text=True
        )
        lines = iter(self.process.stderr.readline, "")
        found = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in lines)
        self.address = next(filter(None, found))[0]

    def wait(self, plugins, seconds=60):
        """Until it has read so much that it shows these tabs."""
        end = time.monotonic() + seconds
        while True:
            with urllib.request.urlopen(f"{self.address}data/plugins_listing", timeout=60) as answer:
                shown = {name for name, about in json.load(answer).items() if about["enabled"]}
            if plugins <= shown:
                return
            assert time.monotonic() < end, f"it shows {shown} and not {plugins - shown}"
            time.sleep(0.2)

    def get(self, path, body=None, **query):
        url = f"{self.address}data/plugin/{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-TensorBoard-Feature-Flags": "{}"}
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
            return answer.read()

    def json(self, path, body=None, **query):
        return json.loads(self.get(path, body, **query))

    def browse(self, tab, folder, *options):
        """What chromium prints of a tab, after 20 seconds of its own time."""
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--hide-scrollbars", "--window-size=1400,1000", "--virtual-time-budget=20000"]
        command += [f"--user-data-dir={folder / 'profile'}", *options, f"{self.address}#{tab}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def picture(self, tab, folder):
        """The pane of a tab without the bars at its top and side: uint8, (height, width, 3)."""
        file = folder / f"{tab}.png"
        self.browse(tab, folder, f"--screenshot={file}")
        return tf.io.decode_png(file.read_bytes(), channels=3).numpy()[130:, 380:]


def _log(folder, rate):
    digits = Digits()
    model = digits.model()
    plan = optim.partition(model, {"body": "conv", "head": optim.Group("head", lr_scale=0.5)})
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(rate), plan)
    step = loops.TrainStep(model, "sparse_categorical_crossentropy", optimizer, metrics=["accuracy"])
    board = loops.TensorBoard(
        folder,
        watch_every=1,
        histograms="*",
        histograms_every=2,
        images=3,
        profile=(5, 6),
        hparams={"rate": rate},
    )
    loops.train(step, digits.data(), epochs=3, validation=digits.validation(), callbacks=[board])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    for name, rate in (("slow", 0.01), ("fast", 0.1)):
        _log(logs / name, rate)
    server = Server(logs)
    try:
        server.wait(set(TABS))
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        server.process.stderr.close()


def test_scalars(server):
    tags = server.json("scalars/tags")
    assert {"slow/steps", "slow/train", "slow/validation", "fast/hparams"} <= tags.keys()
    assert {"step/loss", "rate/body", "grad_norm/head", "update_ratio/body"} <= tags["slow/steps"].keys()
    points = server.json("scalars/scalars", run="slow/steps", tag="rate/head")
    assert [point[1] for point in points] == list(range(1, 13))
    np.testing.assert_allclose([point[2] for point in points], 0.005, rtol=1e-6)


def test_custom_scalars(server):
    charts = [chart for part in server.json("custom_scalars/layout")["category"] for chart in part["chart"]]
    shown = {}
    for chart in charts:
        for run in ("slow/steps", "slow/train", "slow/validation"):
            [tag] = chart["multiline"]["tag"]
            found = server.json("custom_scalars/scalars", run=run, tag=tag)
            assert found["regex_valid"]
            shown.setdefault(chart["title"], []).extend((run, name) for name in found["tag_to_events"])
    assert shown["loss"] == [("slow/train", "epoch/loss"), ("slow/validation", "epoch/loss")]
    groups = {title: [name for _, name in names] for title, names in shown.items()}
    assert groups["learning rate"] == ["rate/body", "rate/head"]
    assert groups["gradient norm"] == ["grad_norm/body", "grad_norm/head", "grad_norm/all"]
    assert groups["weight norm"] == ["weight_norm/body", "weight_norm/head"]


def test_images(server):
    tags = server.json("images/tags")["fast/validation"]
    assert set(tags) == {f"images/{name}" for name in ("examples", "worst", "confusion", "filters")}
    for tag in tags:
        steps = server.json("images/images", run="fast/validation", tag=tag, sample=0)
        assert [step["step"] for step in steps] == [1, 2, 3]
        picture = server.get(f"images/individualImage?{steps[-1]['query']}&")
        assert tf.io.decode_png(picture).shape[-1] == 3
        assert "<p>" in tags[tag]["description"]


def test_histograms(server):
    tags = server.json("histograms/tags")["slow/steps"]
    assert {"weights/conv/kernel", "gradients/head/bias"} <= tags.keys()
    points = server.json("histograms/histograms", run="slow/steps", tag="weights/conv/kernel")
    assert sum(count for _, _, count in points[-1][2]) == 36


def test_graphs(server):
    assert server.json("graphs/info")["slow/train"]["run_graph"] is True
    graph = server.get("graphs/graph", run="slow/train", limit_attr_size=1024, large_attrs_key="_large")
    assert b'name: "variables/conv/kernel"' in graph and b"gradient_tape/" in graph


def test_text(server):
    tags = server.json("text/tags")["slow/train"]
    assert set(tags) == {f"run/{name}" for name in ("command", "versions", "settings", "plan", "variables")}
    [plan] = server.json("text/text", run="slow/train", tag="run/plan")
    assert "body" in plan["text"] and "<code>" in plan["text"]


def test_hparams(server):
    body = {"experimentName": "", "startIndex": 0, "sliceSize": 9, "colParams": [{"hparam": "rate"}]}
    statuses = [f"STATUS_{name}" for name in ("SUCCESS", "UNKNOWN", "FAILURE", "RUNNING")]
    groups = server.json("hparams/session_groups", {**body, "allowedStatuses": statuses})["sessionGroups"]
    assert {group["name"]: group["hparams"]["rate"] for group in groups} == {
        "slow/hparams": 0.01,
        "fast/hparams": 0.1,
    }
    names = {value["name"]["tag"] for value in groups[0]["metricValues"]}
    assert names == {f"final/{name}" for name in ("loss", "accuracy", "val_loss", "val_accuracy")}


@pytest.mark.skipif(PLUGIN is None, reason="no tensorboard-plugin-profile")
def test_profile(server):
    runs = server.json("profile/runs")
    assert any(run.startswith("slow/train") for run in runs)


def test_the_bar_has_every_tab(server, tmp_path):
    page = server.browse("timeseries", tmp_path, "--dump-dom")
    text = re.sub(r"<[^>]*>", "\n", re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL))
    lines = {line.strip().lower() for line in text.splitlines()}
    assert {name.lower() for name in TABS.values()} <= lines, lines
    assert {"step", "rate", "grad_norm", "images", "weights"} <= lines  # the sections


# What the server gives to the other tabs is looked at above.
DRAWN = {"scalars", "images", "graphs"}


@pytest.mark.parametrize(
    "tab", [pytest.param(tab, marks=() if tab in DRAWN else pytest.mark.long) for tab in TABS]
)
def test_what_a_tab_draws(server, tmp_path, tab):
    pane = server.picture(tab, tmp_path).astype(int)
    background = pane[-5, -5]
    drawn = (np.abs(pane - background).max(-1) > 40).mean()
    coloured = (pane.max(-1) - pane.min(-1) > 80).sum()
    assert drawn > 0.005
    if tab == "images":  # cells of the confusion matrix
        assert (np.abs(pane - (8, 48, 107)).max(-1) < 3).sum() > 200
    elif tab not in ("graphs", "text", "hparams"):  # lines in the colours of runs
        assert coloured > 300
