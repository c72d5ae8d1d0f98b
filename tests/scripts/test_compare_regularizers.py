"""The comparison of regularisers: what it refuses at the door, and one whole run on a small input."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compare_regularizers
from compare_regularizers import Result, chosen, parse, split, summary

REFUSED = [
    (["--ways", "drop"], "--ways: drop is unknown; did you mean dropout?"),
    (["--examples", "5"], "--examples: wanted a whole number at least 10, got 5"),
    (
        ["--examples", "40"],
        "--examples 40: small.npz has 40 images to train on, and some are held out; give a",
    ),
    (["--strength", "none=1"], "--strength: none is unknown; choose from l1, l2, dropout, early-stopping"),
    (["--strength", "l1=0"], "--strength: wanted a number above 0, got 0"),
    (["--strength", "dropout=1"], "--strength: dropout wants a share below 1, got 1"),
    (["--strength", "early-stopping=1.5"], "--strength: early-stopping wants whole epochs, got 1.5"),
    (
        ["--ways", "l1", "--strength", "l2=1"],
        "--strength: l2 is not among --ways l1; add it there or leave its",
    ),
    (["--data", "nowhere.npz"], "nowhere.npz: no such file or folder; --data takes"),
    (["--log-dir", "small.npz/logs"], "--log-dir: cannot write to small.npz/logs (Not a directory)"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refuses_in_one_line_and_leaves_nothing_behind(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    refusal: Callable[..., str],
    save_digits: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_digits(train=40, test=10, classes=2)
    monkeypatch.chdir(tmp_path)
    assert message in refusal(compare_regularizers, "--data", "small.npz", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]


def test_a_whole_run(
    tmp_path: Path,
    run: Callable[..., None],
    save_digits: Callable[..., str],
    hyperparameters: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_digits(train=60, test=20, classes=2)
    monkeypatch.chdir(tmp_path)
    options = [
        "--data",
        "small.npz",
        "--examples",
        "20",
        "--batch-size",
        "10",
        "--epochs",
        "3",
        "--seeds",
        "1",
    ]
    options += ["--ways", "dropout", "early-stopping", "--strength", "early-stopping=1", "--log-dir", "logs"]
    run(compare_regularizers, *options)
    screen = capsys.readouterr().out
    assert "20 images to train on, 40 held out, 20 to test on" in screen
    assert "dropout, early-stopping; adam, up to 3 epochs, 10 images a step; 1 runs each" in screen
    with open("logs/regularizers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["way"], row["seed"]) for row in rows] == [("dropout", "0"), ("early-stopping", "0")]
    assert rows[0]["epochs"] == "3" and all(0 <= float(row["test"]) <= 1 for row in rows)
    assert Path("logs/regularizers.png").read_bytes().startswith(b"\x89PNG")
    table = screen.split("\n\n")[1].splitlines()
    assert table[1].split()[:3] == ["dropout", "1", "3"]
    assert hyperparameters(Path("logs/dropout-0")) == {
        "regulariser": "dropout",
        "dropout": 0.5,
        "l1": 0,
        "l2": 0,
        "batch_norm": False,
        "patience": 0,
        "seed": 0,
    }
    assert float(table[1].split()[5].rstrip("%")) == pytest.approx(100 * float(rows[0]["test"]))


def test_a_run_that_is_interrupted_ends_the_comparison_with_what_there_is(
    tmp_path: Path,
    run: Callable[..., None],
    save_digits: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def one(way: str, seed: int, *_: object) -> Result:
        if way == "l2":
            raise KeyboardInterrupt
        return Result(way, seed, 3, 0.9, 0.8, 0.7)

    monkeypatch.setattr(compare_regularizers, "run", one)
    options = ["--data", save_digits(train=60, test=20, classes=2), "--examples", "20"]
    run(compare_regularizers, *options, "--log-dir", tmp_path / "logs")
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in table] == ["regulariser", "none", "l1"]


def test_strengths_are_those_that_were_given() -> None:
    ways = chosen(parse(["--strength", "l1=0.5", "--strength", "early-stopping=7", "--seeds", "2"]))
    assert ways["l1"] == ({"l1": 0.5}, 0) and ways["early-stopping"] == ({}, 7)
    assert ways["l2"] == ({"l2": 1e-3}, 0) and ways["batch-norm"] == ({"batch_norm": True}, 0)


@pytest.mark.parametrize("examples", [10, 25, 61])
def test_a_few_of_each_class_and_others_held_out(examples: int) -> None:
    labels = np.random.default_rng(3).integers(0, 5, 3000)
    kept, held_out = split(labels, examples, seed=1)
    counts = np.bincount(labels[kept], minlength=5)
    assert len(kept) == examples == len(set(kept)) and counts.max() - counts.min() <= 1
    assert len(held_out) == 1000 and not set(kept) & set(held_out)
    np.testing.assert_array_equal(kept, split(labels, examples, seed=1)[0])
    assert set(kept) != set(split(labels, examples, seed=2)[0])


def test_summary_is_mean_and_deviation() -> None:
    runs = [Result("l1", seed, 10 + seed, 0.5, 0.25, 0.8 + 0.02 * seed) for seed in range(3)]
    line = summary([*runs, Result("none", 0, 40, 1.0, 0.9, 0.9)]).splitlines()
    assert line[-2].split() == ["l1", "3", "11", "50.00%", "25.00%", "82.00%", "2.00%"]
    assert line[-1].split() == ["none", "1", "40", "100.00%", "90.00%", "90.00%", "-"]
