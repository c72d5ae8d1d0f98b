"""The range test script: what it refuses at the door, and whole runs on a small input."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import find_lr
import train_lenet

SCRIPT = Path(find_lr.__file__)


@pytest.fixture
def small(save_digits: Callable[..., str]) -> str:
    return save_digits(train=96, test=24, classes=3)


REFUSED = [
    (["--steps", "2"], "--steps: wanted a whole number at least 3, got 2"),
    (["--lowest", "0"], "--lowest: wanted a number above 0, got 0"),
    (["--highest", "nan"], "--highest: wanted a number above 0, got nan"),
    (["--lowest", "0.1", "--highest", "0.1"], "--lowest 0.1 must be below --highest 0.1"),
    (["--optimizer", "adamm"], "adamm is unknown; did you mean adam?"),
    (["--step", "3"], "unrecognized arguments: --step 3 (--help lists the options)"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refuses_options(arguments: list[str], message: str, refusal: Callable[..., str]) -> None:
    assert message in refusal(find_lr, *arguments)


def test_bad_data_filter_and_place_are_one_line(
    small: str, tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nowhere.npz: no such file" in refusal(find_lr, "--data", "nowhere.npz")
    line = refusal(find_lr, "--data", small, "--train-only", "Conv1")
    assert "conv1/kernel" in line
    line = refusal(find_lr, "--log-dir", "small.npz/logs")
    assert "--log-dir: cannot write to small.npz/logs" in line
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]


def test_a_whole_run(
    small: str,
    tmp_path: Path,
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--data", small, "--optimizer", "momentum", "--batch-size", "24", "--shift", "0"]
    run(find_lr, *options, "--train-only", "fc*", "--train-only", "conv2")
    screen = capsys.readouterr()
    assert "Warning" not in screen.err
    assert "momentum from 1e-06 to 10 in 100 steps of 24 images" in screen.out
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert f"--logdir {folder.relative_to(tmp_path)}" in screen.out
    suggestion = float(screen.out.split("Suggestion  ")[1].split(",")[0])
    assert 1e-4 < suggestion < 1.0

    # The command that it prints trains with the same options, at the suggested rate.
    program, script, *words = shlex.split(screen.out.split("Train       ")[1])
    assert Path(script) == SCRIPT.with_name("train_lenet.py") and Path(program) == Path(sys.executable)
    args = train_lenet.parse(words)
    assert (args.data, args.optimizer, args.batch_size, args.shift) == (small, "momentum", 24, 0)
    assert args.train_only == ["fc*", "conv2"] and args.learning_rate == suggestion


def test_the_log_holds_the_curve(
    small: str, tiny_lenet: None, tmp_path: Path, run: Callable[..., None]
) -> None:
    run(find_lr, "--data", small, "--steps", "30", "--highest", "0.01", "--log-dir", str(tmp_path))
    (file,) = tmp_path.glob("events.out.tfevents.*")
    found: dict[str, dict[int, float]] = {}
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            number = 0.0 if "curve" in value.tag else float(tf.make_ndarray(value.tensor))
            found.setdefault(value.tag, {})[event.step] = number
    scalars = ["learning_rate", "loss", "running_mean"]
    assert list(found) == [*(f"range_test/{name}" for name in scalars), "range_test/curve"]
    rates = found["range_test/learning_rate"]
    assert list(rates) == list(range(1, 31))
    np.testing.assert_allclose(list(rates.values()), np.geomspace(1e-6, 0.01, 30), rtol=1e-6)


def test_a_range_without_a_fall_is_one_line_after_the_curve(
    small: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    options = ["--data", small, "--log-dir", str(tmp_path / "logs"), "--optimizer", "sgd"]
    line = refusal(find_lr, *options, "--lowest", "10", "--highest", "100", "--steps", "5")
    assert "the loss never fell by more than its scatter between the rates 10 and" in line
    assert (tmp_path / "logs" / "curve.png").exists()


def test_without_matplotlib_only_the_curve_is_missing(
    small: str,
    tmp_path: Path,
    run: Callable[..., None],
    no_matplotlib: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(find_lr, "--data", small, "--steps", "40", "--log-dir", str(tmp_path / "logs"))
    out = capsys.readouterr().out
    assert 'Curves       left out, since matplotlib is missing: pip install "gradloop[data]"' in out
    assert "Suggestion  " in out
    assert [path.suffix for path in (tmp_path / "logs").iterdir()] == [".v2"]
