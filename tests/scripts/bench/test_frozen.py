"""The benchmark of frozen networks: that it runs and what it tells, not how fast it is."""

import sys

import keras
import pytest

import benchmark
from bench import frozen, frozen_contenders

TINY = frozen_contenders.Settings(side=32, examples=6, batch_size=4)


def test_report():
    head = frozen.Case(
        "head only",
        {"fit": [10.0, 50.0, 30.0], "no cache": [10.0, 60.0, 20.0], "cached": [0.25, 0.5, 1.0]},
    )
    write = frozen.Case(
        "write", {"predict": [2.0], "predict again": [1.0], "in memory": [2.2], "in files": [2.23]}
    )
    title, columns, *lines = frozen.report([head, write], TINY).splitlines()
    assert title.startswith("frozen networks, 32x32, batch 4 (1 rounds)") and "ratio" in columns
    assert [line.split() for line in lines] == [
        ["head", "only", "fit", "/", "cached", "30", "0.5", "40.00", ">=", "50", "missed"],
        ["head", "only", "fit", "/", "no", "cache", "30", "20", "1.00", ">=", "1", "met"],
        ["write", "in", "memory", "/", "predict", "2.2", "2", "1.10", "<=", "1.1", "met"],
        ["write", "in", "files", "/", "predict", "2.23", "2", "1.11", "<=", "1.1", "missed"],
        ["write", "in", "memory", "/", "predict", "again", "2.2", "1", "2.20"],
        ["write", "in", "files", "/", "predict", "again", "2.23", "1", "2.23"],
    ]


def test_wanted_figures_are_of_cases():
    assert {wanted.case for wanted in frozen.WANTED} == set(frozen.CASES)


def small_network(name, side):
    """Ends as the real one does, in a pool and a head for two classes."""
    pixels = x = keras.Input((side, side, 3))
    for number in (1, 2):
        x = keras.layers.Conv2D(4, 3, strides=2, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(2, activation="softmax", name="head")(x))


def run_here(python, case, rounds, settings):
    return frozen_contenders._run(case, rounds, settings)


CASES = [
    pytest.param(case, marks=pytest.mark.long if case == "peak memory" else pytest.mark.release)
    for case in frozen.CASES
]


@pytest.mark.parametrize("case", CASES)
def test_runs(case, monkeypatch):
    if case != "peak memory":  # whose four processes are started and read as that of any other case
        monkeypatch.setattr(frozen, "_values", run_here)
    if case in ("head only", "top block", "write"):  # whose layers in the real one are tested below
        monkeypatch.setattr(frozen_contenders, "network", small_network)
        monkeypatch.setitem(frozen_contenders.FIRST, "top block", "conv2")
    found = frozen.measure(sys.executable, case, 1, TINY)
    assert found.name == case
    names = {name for wanted in frozen.WANTED if wanted.case == case for name in (wanted.over, wanted.under)}
    assert set(found.values) == names
    for values in found.values.values():
        assert len(values) == 1 and values[0] > 0
    assert case in frozen.report([found], TINY)


BLOCK = ["block_16_expand", "block_16_depthwise", "block_16_project"]
LAYERS = {
    "head only": {"head"},
    "top block": {"head", "Conv_1", "Conv_1_bn", *BLOCK, *(f"{name}_BN" for name in BLOCK)},
}


@pytest.mark.parametrize("case", LAYERS)
def test_what_fit_trains_is_what_the_steps_are_told_to(case):
    model = frozen_contenders.network("MobileNetV2", 32)
    layers, chosen = frozen_contenders.split(model, frozen_contenders.FIRST[case])
    assert {variable.path.split("/")[0] for variable in chosen} == LAYERS[case]
    for layer in layers:
        layer.trainable = False
    assert list(map(id, model.trainable_variables)) == list(map(id, chosen))


def test_says_why_it_failed():
    with pytest.raises(RuntimeError, match="KeyError: 'tail'"):
        frozen.measure(sys.executable, "tail", 1, TINY)


def test_a_part_of_the_benchmark(monkeypatch, capsys):
    def measure(python, case, rounds):
        if case == "top block":
            raise RuntimeError("out of memory")
        return frozen.Case(case, {"fit": [60.0], "no cache": [50.0], "cached": [1.0]})

    monkeypatch.setattr(frozen, "measure", measure)
    assert benchmark.main(["--parts", "frozen", "--rounds", "1"]) == 0
    said = capsys.readouterr()
    assert "60.00   >= 50     met" in said.out and "1.20    >= 1     met" in said.out
    assert said.err == "frozen not measured: out of memory\n"
