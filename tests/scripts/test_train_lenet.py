"""The training script: what it refuses at the door, and one whole run on a small input."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import gradloop.models  # noqa: F401  # with it, Keras knows LeNet5 in a file
from tests.programs import Program

import train_lenet
from shared.lenet_options import OPTIMIZERS

SCRIPT = Path(train_lenet.__file__)


@pytest.fixture
def small(save_digits: Callable[..., str]) -> str:
    return save_digits(train=96, test=24, classes=3)


REFUSED = [
    (["--batch-size", "0"], "--batch-size: wanted a whole number at least 1, got 0"),
    (["--batch-size", "2.5"], "--batch-size: wanted a whole number at least 1, got 2.5"),
    (["--epochs", "0"], "--epochs: wanted a whole number at least 1, got 0"),
    (["--epochs", "many"], "--epochs: wanted a whole number at least 1, got many"),
    (["--learning-rate", "-0.1"], "--learning-rate: wanted a number above 0, got -0.1"),
    (["--learning-rate", "nan"], "--learning-rate: wanted a number above 0, got nan"),
    (["--learning-rate", "inf"], "--learning-rate: wanted a number above 0, got inf"),
    (["--dropout", "1"], "--dropout: wanted a number at least 0 and below 1, got 1"),
    (["--weight-decay", "-1"], "--weight-decay: wanted a number at least 0, got -1"),
    (["--seed", "-1"], "--seed: wanted a whole number at least 0 and below 2.14748e+09, got -1"),
    (["--shift", "28"], "--shift: wanted a whole number at least 0 and below 28, got 28"),
    (["--optimizer", "adamm"], "adamm is unknown; did you mean adam?"),
    (["--optimizer", "xyz"], "xyz is unknown; choose from sgd, momentum, nag,"),
    (["--schedule", "cosin"], "cosin is unknown; did you mean cosine?"),
    (["--epoch", "3"], "unrecognized arguments: --epoch 3 (--help lists the options)"),
    (["--save", "model.h5"], "--save: wanted the name of a .keras file, got model.h5"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refuses_options(arguments: list[str], message: str, refusal: Callable[..., str]) -> None:
    assert message in refusal(train_lenet, *arguments)


@pytest.mark.parametrize(("option", "name"), [("--log-dir", "logs"), ("--save", "a/model.keras")])
def test_refuses_places_it_cannot_write_before_anything_else(
    option: str, name: str, tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    line = refusal(train_lenet, option, f"file/{name}", "--data", "no such data")
    assert f"{option}: cannot write to file/" in line and "Not a directory" in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_bad_data_is_one_line_and_leaves_no_folder(
    tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(train_lenet, "--data", "nowhere.npz")
    assert line.startswith("error: nowhere.npz: no such file or folder; --data takes")
    assert list(tmp_path.iterdir()) == []


def test_unknown_strategy_suggests_one(small: str, tmp_path: Path, refusal: Callable[..., str]) -> None:
    options = ["--data", small, "--log-dir", str(tmp_path / "logs")]
    assert "auto" in refusal(train_lenet, *options, "--strategy", "aut")


def test_filter_without_a_match_shows_near_misses(
    small: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    options = ["--data", small, "--log-dir", str(tmp_path / "logs")]
    assert "conv1/kernel" in refusal(train_lenet, *options, "--train-only", "Conv1")


def test_a_rate_far_too_high_ends_in_one_line(
    small: str, tmp_path: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", small, "--log-dir", str(tmp_path / "logs"), "--optimizer", "sgd"]
    with pytest.raises(SystemExit) as ended:
        run(train_lenet, *options, "--learning-rate", "1e30", "--schedule", "constant")
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_whole_run_as_a_program(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", small, "--epochs", "12", "--batch-size", "20"]
    run = Program(SCRIPT, *arguments, folder=tmp_path, within=tmp_path)
    told, errors = run.finish(), run.stderr.read_text()
    assert "96 images to train on, 24 to test on, 3 classes" in told
    assert "Traceback" not in errors and "Warning" not in errors
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list(folder.rglob("events.out.tfevents.*"))
    accuracy = float(told.split("Test accuracy ")[1].split("%")[0])
    assert accuracy == 100.0
    # What it prints can be pasted: paths are relative to where it ran.
    place = folder.relative_to(tmp_path)
    assert f"--logdir {place}" in told
    assert f"xdg-open {place}/curves.png" in told
    monkeypatch.chdir(tmp_path)
    program, option, code = shlex.split(told.split("Model        ")[1])
    assert Path(program) == Path(sys.executable) and option == "-c"
    exec(code, {})
    assert "conv1" in capsys.readouterr().out

    model = keras.models.load_model(folder / "lenet5.keras")
    with np.load(small) as arrays:
        guess = np.argmax(model(arrays["x_test"][..., None].astype("float32")), axis=1)
        np.testing.assert_array_equal(guess, arrays["y_test"])


# Plain, with moments, and by Keras' own step; the others differ in the optimizer alone.
KINDS = {"sgd", "adamw", "lion"}


@pytest.mark.parametrize(
    "optimizer", [pytest.param(o, marks=() if o in KINDS else pytest.mark.long) for o in OPTIMIZERS]
)
def test_every_optimizer_trains_what_was_chosen_alone(
    optimizer: str, small: str, tmp_path: Path, run: Callable[..., None], no_matplotlib: None
) -> None:
    keras.utils.set_random_seed(3)
    from gradloop import models

    before = models.LeNet5(3).get_weights()
    file = tmp_path / "model.keras"
    run(
        train_lenet,
        *("--data", small, "--epochs", "1", "--seed", "3", "--log-dir", str(tmp_path / "logs")),
        *("--optimizer", optimizer.upper(), "--train-only", "conv", "--train-only", "fc2/bias"),
        *("--save", str(file), "--weight-decay", "0.01", "--schedule", "constant"),
        *("--dropout", "0", "--shift", "0"),  # less to trace eleven times
    )
    model = keras.models.load_model(file)
    moved = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
    assert moved == [True] * 4 + [False] * 3 + [True] + [False] * 2


def test_the_same_seed_gives_the_same_model(
    small: str, tiny_lenet: None, tmp_path: Path, run: Callable[..., None], no_matplotlib: None
) -> None:
    weights = []
    for number, seed in enumerate(("1", "1", "2")):
        file, logs = str(tmp_path / "model.keras"), str(tmp_path / str(number))
        options = ["--data", small, "--epochs", "2", "--log-dir", logs, "--save", file]
        run(train_lenet, *options, "--seed", seed)
        weights.append(np.concatenate([w.ravel() for w in keras.models.load_model(file).get_weights()]))
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.allclose(weights[0], weights[2])


def test_the_cosine_schedule_ends_at_zero(
    small: str,
    tiny_lenet: None,
    tmp_path: Path,
    run: Callable[..., None],
    no_matplotlib: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = []
    real = keras.optimizers.Adam

    def spy(rate: Any, **options: Any) -> Any:
        optimizer = real(rate, **options)
        rates.append(rate)
        return optimizer

    monkeypatch.setattr(keras.optimizers, "Adam", spy)
    options = ["--data", small, "--epochs", "2", "--batch-size", "40", "--log-dir", str(tmp_path)]
    run(train_lenet, *options, "--learning-rate", "0.01")
    assert [float(rates[0](step)) for step in (0, 3, 6)] == pytest.approx([0.01, 0.005, 0], abs=1e-9)


def test_without_matplotlib_only_the_curves_are_missing(
    small: str,
    tiny_lenet: None,
    tmp_path: Path,
    run: Callable[..., None],
    no_matplotlib: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(train_lenet, "--data", small, "--epochs", "1", "--log-dir", str(tmp_path / "logs"))
    assert 'Curves       left out, since matplotlib is missing: pip install "gradloop[data]"' in (
        capsys.readouterr().out
    )
    assert (tmp_path / "logs" / "lenet5.keras").exists()
    assert not (tmp_path / "logs" / "curves.png").exists()


@pytest.mark.release  # `tests/loops/training` has every way to end
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(
    small: str,
    tmp_path: Path,
    run: Callable[..., None],
    no_matplotlib: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def options(name: str) -> list[str]:
        folder = tmp_path / name
        places = ["--checkpoint", str(folder / "checkpoints"), "--log-dir", str(folder / "logs")]
        return ["--data", small, "--batch-size", "20", "--epochs", "12", *places]

    def weights(name: str) -> list[Any]:
        return list(keras.models.load_model(tmp_path / name / "logs" / "lenet5.keras").get_weights())

    killed = Program(SCRIPT, *options("killed"), folder=tmp_path)
    deadline = time.monotonic() + 120
    while not any((tmp_path / "killed/checkpoints").glob("checkpoint-[2-9]/state.index")):
        assert time.monotonic() < deadline and killed.process.is_alive()
        time.sleep(0.01)
    killed.kill()
    assert "Test accuracy" not in killed.stdout.read_text()
    run(train_lenet, *options("killed"))
    assert "Training goes on at epoch" in capsys.readouterr().out
    run(train_lenet, *options("straight"))
    for one, other in zip(weights("killed"), weights("straight"), strict=True):
        np.testing.assert_array_equal(one, other)
