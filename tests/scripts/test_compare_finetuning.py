"""The comparison of ways to fine-tune: one whole run on a small input, and its figures."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

import compare_finetuning
from compare_finetuning import Result, summary


def test_runs_every_way_and_writes_the_figures(
    tmp_path: Path,
    run: Callable[..., None],
    small_net: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(20) % 2
    x = (rng.integers(0, 100, (20, 32, 32, 3)) + 150 * y[:, None, None, None]).astype("uint8")
    np.savez(tmp_path / "small.npz", x_train=x, y_train=y)
    monkeypatch.chdir(tmp_path)
    # Here it would drop what TensorFlow has compiled in all tests before, which takes up to a minute.
    monkeypatch.setattr(keras.backend, "clear_session", lambda: None)
    options = ["--data", "small.npz", "--backbone", "SmallNet", "--weights", "none", "--size", "32"]
    options += ["--epochs", "1", "--seeds", "1", "--csv", "a/b.csv", "--picture", "a/c.png"]
    run(compare_finetuning, *options, "--ways", "both", "head", "--log-dir", "logs")
    with open("a/b.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [(row["way"], row["seed"], row["best_epoch"]) for row in rows]
    assert found == [("both", "0", "1"), ("head", "0", "1")]
    assert all(0 <= float(row["test"]) <= 1 for row in rows)
    assert (tmp_path / "a" / "c.png").exists()
    assert "12 images to train on, 4 to choose by, 4 to test on" in capsys.readouterr().out


def test_summary_is_mean_and_deviation() -> None:
    runs = [Result("head", seed, 0.5, 0.8 + 0.02 * seed, 1, 10.0) for seed in range(3)]
    line = summary([*runs, Result("both", 0, 0.9, 0.9, 2, 30.0)]).splitlines()
    assert line[-2].split() == ["head", "3", "50.00%", "0.00%", "82.00%", "2.00%", "10"]
    assert line[-1].split() == ["both", "1", "90.00%", "-", "90.00%", "-", "30"]
