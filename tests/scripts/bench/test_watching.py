"""The benchmark of watched runs: that it runs and what it tells, not how fast it is."""

import sys

import keras
import numpy as np
import pytest

from gradloop import loops

from bench import watching


def test_report():
    us = {"off": [100.0], "unwatched steps": [100.0], "defaults": [106.0], "histograms every 100": [110.0]}
    points = {"a quarter": [2.0, 3.0], "all points": [2.5, 3.0]}
    cases = [
        watching.Case("lenet5", us, {name: [10.0] for name in us}),
        watching.Case("events", points, points, {name: [61.25] for name in points}),
    ]
    base, unwatched, defaults, histograms, quarter, points_line = watching.report(cases).splitlines()[-6:]
    assert base.split() == ["lenet5", "off", "100"]
    words = ["lenet5", "unwatched", "steps", "100", "1.000x", "<=", "1.01", "met", "1.000x"]
    assert unwatched.split() == words
    assert "1.060x" in defaults and "missed" in defaults
    assert "1.100x" in histograms and "met" in histograms
    assert quarter.split() == ["events", "a", "quarter", "2.5", "61.2"]
    assert "2.75" in points_line and "1.125x" in points_line and "missed" in points_line


def test_points():
    found = watching._run_events(1, 2000 * watching._TAGS)
    assert set(found.us) == set(found.cpu_us) == {"a quarter", "all points"}
    assert all(len(each) == 1 and each[0] > 0 for each in (*found.us.values(), *found.cpu_us.values()))
    (few,), (many,) = found.bytes.values()
    assert 30 < few < 45 and abs(few - many) < 1, "the file grows by the same for each point"


def tiny():
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    return model, "sgd", loops.Batches(rng.random((64, 4), "float32"), rng.integers(0, 3, 64), 32)


@pytest.mark.parametrize(
    "network",
    [pytest.param("tiny", marks=pytest.mark.release), pytest.param("lenet5", marks=pytest.mark.long)],
)
def test_a_tiny_run(network, monkeypatch):
    if network == "tiny":
        monkeypatch.setitem(watching._NETWORKS, network, tiny)
        found = watching._run(network, 1, 120)
    else:
        found = watching.measure(sys.executable, network, 1, steps=120)
    assert set(found.us) == {watching.BASE, *watching.WANTED} - {"all points"}
    assert all(len(each) == 1 and each[0] > 0 for each in found.us.values())
