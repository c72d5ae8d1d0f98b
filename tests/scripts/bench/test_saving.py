"""The benchmark of saving and resuming: that it runs and what it tells, not how fast it is."""

import sys

import keras
import numpy as np
import pytest

from gradloop import loops

from bench import saving


def test_report():
    cases = [
        saving.Case("lenet5", {"unsaved": [100.0], "saved": [103.0]}, {"unsaved": [9.0], "saved": [9.9]}),
        saving.Case("resnet50", *[{"write": [1.6], "copy": [1.0], "held up": [0.2], "beside": [2.0]}] * 2),
        saving.Case("resume", *[{"above": [1.0, 1.2, 9.0], "read": [1.0, 1.0, 1.0]}] * 2),
    ]
    lenet5, write, held, resume = saving.report(cases).splitlines()[-4:]
    assert lenet5.split()[-5:] == ["1.030x", "<=", "1.03", "met", "1.100x"]
    assert write.split() == [
        "resnet50",
        "write",
        "/",
        "copy",
        "1.6",
        "1",
        "1.600x",
        "<=",
        "1.5",
        "missed",
        "1.600x",
    ]
    assert "0.100x" in held and "met" in held
    assert "1.200x" in resume and "met" in resume


def tiny():
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    data = loops.Batches(rng.random((64, 4), "float32"), rng.integers(0, 3, 64), 32)
    return loops.TrainStep(model, "sparse_categorical_crossentropy", "adam"), data


@pytest.mark.release
@pytest.mark.parametrize("name", ["resnet50", "resume"])
def test_a_tiny_run(name):
    found = saving._CASES[name](1, 1, tiny)
    names = {each for over, under, _ in saving.WANTED[name] for each in (over, under)}
    assert set(found.times) == set(found.cpu) >= names
    assert all(len(each) == 1 and each[0] > 0 for name, each in found.times.items() if name != "above")


@pytest.mark.long
def test_a_process():
    found = saving.measure(sys.executable, "lenet5", 1, steps=400)
    assert set(found.times) == {"unsaved", "saved"}
