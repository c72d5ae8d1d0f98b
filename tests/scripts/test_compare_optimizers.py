"""The comparison of optimizers: what it refuses at the door, and whole runs on a small input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import compare_optimizers

Scalars = dict[str, list[tuple[int, float]]]


@pytest.fixture
def small(save_digits: Callable[..., str]) -> str:
    """Two steps an epoch."""
    return save_digits(train=40, test=10, classes=2)


def short(small: str, folder: Path, *arguments: str) -> list[str]:
    """Options of a run with two steps an epoch and two epochs."""
    return ["--data", small, "--log-dir", str(folder), "--batch-size", "16", "--epochs", "2", *arguments]


def rows(screen: str) -> dict[str, list[str]]:
    """The cells of the table by optimizer."""
    lines = screen.split("\n\n")[1].splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines[1:]}


def events(folder: Path) -> Any:
    """The values of a run's one event file, with their steps."""
    (file,) = folder.glob("events.out.tfevents.*")
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            yield event.step, value


def scalars(folder: Path) -> Scalars:
    found: Scalars = {}
    for step, value in events(folder):
        if value.metadata.plugin_data.plugin_name == "scalars":
            found.setdefault(value.tag, []).append((step, float(tf.make_ndarray(value.tensor))))
    return found


REFUSED = [
    (["--optimizers", "adamm"], "--optimizers: adamm is unknown; did you mean adam?"),
    (["--optimizers", "sgd", "lion"], "--optimizers: lion is unknown; choose from sgd, momentum, nag,"),
    (["--optimizers"], "--optimizers: expected at least one argument"),
    (["--learning-rate", "sdg=0.1"], "--learning-rate: sdg is unknown; did you mean sgd?"),
    (["--learning-rate", "sgd"], "--learning-rate: wanted NAME=NUMBER, got sgd"),
    (["--learning-rate", "0.1"], "--learning-rate: wanted NAME=NUMBER, got 0.1"),
    (["--learning-rate", "sgd=0"], "--learning-rate: wanted a number above 0, got 0"),
    (["--learning-rate", "sgd=-1"], "--learning-rate: wanted a number above 0, got -1"),
    (["--learning-rate", "sgd=nan"], "--learning-rate: wanted a number above 0, got nan"),
    (["--learning-rate", "sgd="], "--learning-rate: wanted a number above 0, got"),
    (
        ["--optimizers", "sgd", "nag", "--learning-rate", "adam=0.1"],
        "--learning-rate: adam is not among --optimizers sgd nag; add it there or leave its rate out",
    ),
    (["--batch-size", "0"], "--batch-size: wanted a whole number at least 1, got 0"),
    (["--epochs", "1.5"], "--epochs: wanted a whole number at least 1, got 1.5"),
    (["--seed", "-1"], "--seed: wanted a whole number at least 0 and below 2.14748e+09, got -1"),
    (["--seed", "2147483648"], "--seed: wanted a whole number at least 0 and below"),
    (["--data", "nowhere.npz"], "nowhere.npz: no such file or folder; --data takes"),
    (["--log-dir", "file/logs"], "--log-dir: cannot write to file/logs (Not a directory)"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refuses_in_one_line_and_leaves_nothing_behind(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    assert message in refusal(compare_optimizers, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_whole_run(
    small: str,
    tmp_path: Path,
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--data", small, "--batch-size", "16", "--epochs", "2"]
    options += ["--optimizers", "nag", "adam", "nag", "--learning-rate", "adam=0.001"]
    run(compare_optimizers, *options)
    screen = capsys.readouterr()
    assert "Warning" not in screen.err
    assert "32 images to train on, 8 to validate on, 2 classes" in screen.out
    assert "nag, adam, each at a constant rate; 2 epochs of 2 steps, 16 images each" in screen.out
    (folder,) = (tmp_path / "runs").iterdir()
    place = folder.relative_to(tmp_path)
    assert f"--logdir {place}" in screen.out
    assert f"xdg-open {place}/optimizers.png" in screen.out
    assert (folder / "optimizers.png").read_bytes().startswith(b"\x89PNG")

    # The table says what TensorBoard says.
    table = rows(screen.out)
    assert list(table) == ["nag", "adam"]
    assert [cells[0] for cells in table.values()] == ["0.03", "0.001"]
    for name, (_, loss, accuracy, val_loss, val_accuracy, best, epoch) in table.items():
        train, validation = scalars(folder / name / "train"), scalars(folder / name / "validation")
        assert len(scalars(folder / name / "steps")["step/loss"]) == 4
        assert loss == f"{train['epoch/loss'][-1][1]:.4f}"
        assert accuracy == f"{train['epoch/accuracy'][-1][1]:.2%}"
        assert val_loss == f"{validation['epoch/loss'][-1][1]:.4f}"
        by_epoch = [value for _, value in validation["epoch/accuracy"]]
        assert val_accuracy == f"{by_epoch[-1]:.2%}" and best == f"{max(by_epoch):.2%}"
        assert int(epoch) == by_epoch.index(max(by_epoch)) + 1
        assert scalars(folder / name / "hparams")["final/best_val_accuracy"][-1] == (2, max(by_epoch))


def test_the_hparams_tab_has_its_columns_and_rows(
    small: str,
    tiny_lenet: None,
    tmp_path: Path,
    run: Callable[..., None],
    no_matplotlib: None,
    hyperparameters: Callable[..., dict[str, Any]],
) -> None:
    run(compare_optimizers, *short(small, tmp_path / "logs", "--learning-rate", "sgd=0.3"))
    found = {name: hyperparameters(tmp_path / "logs" / name) for name in compare_optimizers.NAMES}
    keys = ("optimizer", "learning_rate", "momentum")
    assert {name: tuple(values[key] for key in keys) for name, values in found.items()} == {
        "sgd": ("sgd", 0.3, 0.0),
        "momentum": ("momentum", 0.03, 0.9),
        "nag": ("nag", 0.03, 0.9),
        "adagrad": ("adagrad", 0.03, 0.0),
        "adadelta": ("adadelta", 1.0, 0.0),
        "rmsprop": ("rmsprop", 0.001, 0.0),
        "adam": ("adam", 0.002, 0.9),
    }
    assert {frozenset(values) for values in found.values()} == {frozenset(keys)}


def test_same_weights_same_order_for_each_and_the_same_again_with_the_seed(
    small: str,
    tiny_lenet: None,
    tmp_path: Path,
    run: Callable[..., None],
    no_matplotlib: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tables, losses = [], {}
    # At rates that move nothing, only weights and order are left to tell the runs apart.
    still = ["--learning-rate", "sgd=1e-20", "--learning-rate", "adagrad=1e-20"]
    names = ("sgd", "adagrad", "adam")
    for number, (seed, some) in enumerate([("5", names), ("5", names), ("6", names[:2])]):
        folder = tmp_path / str(number)
        options = ["--optimizers", *some, *still, "--seed", seed]
        run(compare_optimizers, *short(small, folder, *options))
        tables.append(rows(capsys.readouterr().out))
        for name in some:
            losses[number, name] = [value for _, value in scalars(folder / name / "steps")["step/loss"]]
    assert losses[0, "sgd"] == losses[0, "adagrad"]
    assert losses[0, "sgd"][0] == losses[0, "adam"][0] and losses[0, "sgd"] != losses[0, "adam"]
    assert tables[0] == tables[1]
    assert [losses[0, name] for name in tables[0]] == [losses[1, name] for name in tables[0]]
    assert losses[0, "sgd"] != losses[2, "sgd"]


def test_the_test_images_play_no_part(
    small: str,
    tiny_lenet: None,
    tmp_path: Path,
    run: Callable[..., None],
    no_matplotlib: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with np.load(small) as arrays:
        wrong = {**arrays, "x_test": arrays["x_test"] / 2, "y_test": 1 - arrays["y_test"]}
    np.savez(tmp_path / "wrong.npz", **wrong)
    tables = []
    for number, file in enumerate((small, str(tmp_path / "wrong.npz"))):
        run(compare_optimizers, *short(file, tmp_path / str(number), "--optimizers", "sgd"))
        tables.append(rows(capsys.readouterr().out))
    assert tables[0] == tables[1]


@pytest.mark.parametrize("images", [2, 3, 40, 4001])
def test_a_fifth_is_held_out(images: int) -> None:
    rest, held_out = compare_optimizers.split(images)
    assert sorted([*rest, *held_out]) == list(range(images))
    assert len(held_out) == max(1, round(images / 5))
    np.testing.assert_array_equal(held_out, compare_optimizers.split(images)[1])


def test_one_that_diverges_does_not_end_the_comparison(
    small: str, tmp_path: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--optimizers", "sgd", "adam", "--learning-rate", "sgd=1e30"]
    run(compare_optimizers, *short(small, tmp_path / "logs", *options))
    table = rows(capsys.readouterr().out)
    assert table["sgd"] == ["1e+30", *["-"] * 6, "diverged", "at", "step", "2"]
    assert len(table["adam"]) == 7
    assert (tmp_path / "logs" / "optimizers.png").exists()


def test_nothing_is_drawn_where_all_diverge(
    small: str, tmp_path: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--optimizers", "sgd", "--learning-rate", "sgd=1e30"]
    run(compare_optimizers, *short(small, tmp_path / "logs", *options))
    assert "Curves" not in capsys.readouterr().out
    assert not (tmp_path / "logs" / "optimizers.png").exists()


def test_interrupted_it_shows_what_there_is(
    small: str,
    tiny_lenet: None,
    tmp_path: Path,
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from gradloop import loops

    real, calls = loops.TensorBoard.on_epoch_end, []

    def interrupt(board: Any, epoch: int, logs: dict[str, float]) -> None:
        real(board, epoch, logs)
        calls.append(epoch)
        if len(calls) == 3:  # the first epoch of the second optimizer
            raise KeyboardInterrupt

    monkeypatch.setattr(loops.TensorBoard, "on_epoch_end", interrupt)
    options = ["--optimizers", "sgd", "nag", "adam"]
    run(compare_optimizers, *short(small, tmp_path / "logs", *options))
    assert calls == [0, 1, 0]
    assert set(rows(capsys.readouterr().out)) == {"sgd", "nag"}
    assert (tmp_path / "logs" / "optimizers.png").exists()


def test_without_matplotlib_only_the_curves_are_missing(
    small: str,
    tiny_lenet: None,
    tmp_path: Path,
    run: Callable[..., None],
    no_matplotlib: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(compare_optimizers, *short(small, tmp_path / "logs", "--optimizers", "rmsprop"))
    screen = capsys.readouterr().out
    assert "Curves       left out, since matplotlib is missing" in screen and "rmsprop" in rows(screen)
    assert not (tmp_path / "logs" / "optimizers.png").exists()
