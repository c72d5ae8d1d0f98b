"""What `predict.py` says to files, models, cards and options that it cannot use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from PIL import Image

import predict
from shared import model_card

SCRIPT = Path(predict.__file__)
NAMES = ("red", "green", "blue")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Any model of three classes in a file, its card beside it."""
    x = keras.Input((8, 6, 3))
    y = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(x, y).save(tmp_path / "model.keras")
    model_card.write(tmp_path / "model.keras", NAMES, 255)
    return tmp_path / "model.keras"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three pictures."""
    (tmp_path / "images").mkdir()
    for name in NAMES:
        Image.new("RGB", (12, 9), name).save(tmp_path / "images" / f"{name}.png")
    return tmp_path / "images"


# Files and cards


def test_bad_files_are_named_and_skipped(
    model: Path, images: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "a.png").write_text("no image")
    Image.effect_noise((40, 40), 90).save(images / "h.png")
    os.truncate(images / "h.png", 500)
    (images / "notes.txt").write_text("not even meant")
    (images / "empty").mkdir()
    assert status(predict, model, images / "gone.png", images, images / "empty", "--batch-size", 2) == 1
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == [
        str(images / f"{name}.png") for name in ("blue", "green", "red")
    ]
    errors = printed.err.splitlines()
    assert len(errors) == 4 and all(line.startswith("error: ") for line in errors)
    for line, name, problem in zip(
        errors,
        ("gone.png", "empty", "a.png", "h.png"),
        ("no such file or folder", "has no images; wanted files of .png", "cannot be read", "truncated"),
        strict=True,
    ):
        assert f"{name}: " in line and problem in line


def test_nothing_readable(
    model: Path, images: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "a.png").write_text("no image")
    assert status(predict, model, images / "a.png") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "a.png: cannot be read" in printed.err and "none of the files could be read" in printed.err
    assert status(predict, model, images / "gone.png") == 2
    assert "error: no image to predict; name files, or a folder" in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--classes", "a,b,c"), ("--highest", "1")])
def test_a_bad_card(
    options: tuple[str, ...],
    model: Path,
    images: Path,
    status: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model_card.path_of(model).write_text('{"layers": []}')  # Keras' own files may be called so
    assert status(predict, model, images, *options) == 2
    assert "model.json: is no model's card: it lacks class_names" in capsys.readouterr().err
    assert status(predict, model, images, "--classes", "a,b,c", "--highest", "255") == 0


def test_another_number_of_names(
    model: Path, images: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(predict, model, images, "--classes", "a,b") == 2
    assert "--classes: has 2 names, but" in capsys.readouterr().err
    model_card.write(model, ["a", "b", "c", "d"], 255)
    assert status(predict, model, images) == 2
    line = capsys.readouterr().err
    assert "model.json: has 4 names, but" in line and "has 3 outputs; name them all with --classes" in line


# Refused at the door

REFUSED = [
    (["--top", "0"], "--top: wanted a whole number at least 1, got 0"),
    (["--batch-size", "0"], "--batch-size: wanted a whole number at least 1, got 0"),
    (["--size", "x"], "--size: wanted a whole number at least 1, got x"),
    (["--highest", "0"], "--highest: wanted a number above 0, got 0"),
    (["--highest", "nan"], "--highest: wanted a number above 0, got nan"),
    (["--classes", "cat"], "--classes: wanted two or more different names, as in cat,dog, got cat"),
    (["--classes", "cat,,dog"], "wanted two or more different names"),
    (["--classes", "cat,cat"], "wanted two or more different names"),
    (["--grid", "a.jpg"], "--grid: wanted the name of a .png file, got a.jpg"),
    (["--grid", "/dev/null/a.png"], "--grid: cannot write to /dev/null ("),
    (["--size", "9"], "--size 9: "),
    (["--tops", "1"], "unrecognized arguments: --tops 1 (--help lists the options)"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refuses_options(
    arguments: list[str],
    message: str,
    model: Path,
    images: Path,
    status: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status(predict, model, images, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: ") and message in printed.err


def test_refuses_bad_models_before_anything_slow(images: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.keras").write_text("no model")
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "bad.keras", str(images)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: bad.keras: is not a whole .keras file, perhaps truncated or")
    assert len(done.stderr.splitlines()) == 1


def test_without_pillow(
    model: Path,
    images: Path,
    status: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert status(predict, model, images) == 2
    assert 'pip install "gradloop[data]"' in capsys.readouterr().err


def test_grid_without_matplotlib(
    model: Path,
    images: Path,
    status: Callable[..., int],
    no_matplotlib: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status(predict, model, images, "--grid", "a.png") == 2
    assert '--grid: matplotlib is missing: pip install "gradloop[data]"' in capsys.readouterr().err
    assert status(predict, model, images) == 0


# As a program


@pytest.mark.release
def test_as_a_program_where_names_are_no_text(model: Path, images: Path) -> None:
    odd = os.fsdecode(os.fsencode(str(images)) + b"/\xff.png")
    (images / "red.png").rename(odd)
    (images / "bad.png").write_text("no image")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(model), str(images)],
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
        capture_output=True,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr and b"bad.png: cannot be read" in done.stderr
    assert len(done.stderr.splitlines()) == 1  # nothing of TensorFlow's
    assert rb"\udcff.png" in done.stdout and done.stdout.count(b"\n") == 3


@pytest.mark.long
def test_a_reader_that_has_seen_enough(model: Path, images: Path) -> None:
    # The pipe is closed long before the answer comes.
    command = f"{{ {sys.executable} {SCRIPT} {model} {images}; echo $? >&2; }} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
    assert done.stderr.split()[-1] == "141"  # ended by SIGPIPE
