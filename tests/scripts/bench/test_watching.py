"""The benchmark of watched runs: that it runs and what it tells, not how fast it is."""

import sys

import keras
import numpy as np
import pytest

from gradloop import loops

from bench import watching


def test_report():
    names = [watching.BASE, *watching.WANTED]
    text = watching.report([watching.Case("lenet5", dict(zip(names, ([100.0], [100.0], [106.0], [110.0]))))])
    base, unwatched, defaults, histograms = text.splitlines()[-4:]
    assert base.split() == ["lenet5", "off", "100"]
    assert unwatched.split() == ["lenet5", "unwatched", "steps", "100", "1.000x", "<=", "1.01", "met"]
    assert "1.060x" in defaults and "missed" in defaults
    assert "1.100x" in histograms and "met" in histograms


def tiny():
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    return model, "sgd", loops.Batches(rng.random((64, 4), "float32"), rng.integers(0, 3, 64), 32)


@pytest.mark.parametrize("network", ["tiny", pytest.param("lenet5", marks=pytest.mark.long)])
def test_a_tiny_run(network, monkeypatch):
    if network == "tiny":
        monkeypatch.setitem(watching._NETWORKS, network, tiny)
        found = watching._run(network, 1, 120)
    else:
        found = watching.measure(sys.executable, network, 1, steps=120)
    assert set(found.us) == {watching.BASE, *watching.WANTED}
    assert all(len(each) == 1 and each[0] > 0 for each in found.us.values())
