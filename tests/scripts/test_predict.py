"""The prediction script: what it prints and draws. What it refuses is in test_predict_refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import predict
import train_lenet
from shared import model_card

NAMES = ("red", "green", "blue")
CLEAR = {"red": (250, 10, 5), "green": (20, 240, 9), "blue": (0, 60, 200)}


def colours(scale: float, logits: bool = False) -> keras.Model:
    """Names the strongest of three channels: softmax of each channel's mean, its white being 1 / scale."""
    x = keras.Input((8, 6, 3))
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(5 * scale)(x))
    return keras.Model(x, y if logits else keras.layers.Softmax()(y))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model in a file, its card beside it."""
    path = tmp_path / "model.keras"
    colours(1 / 255).save(path)
    model_card.write(path, NAMES, 255)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of one picture a class."""
    (tmp_path / "images").mkdir()
    for name, colour in CLEAR.items():
        Image.new("RGB", (12, 9), colour).save(tmp_path / "images" / f"{name}.png")
    return tmp_path / "images"


def shares(colour: tuple[int, int, int], white: float = 255, scale: float = 1 / 255) -> list[float]:
    """What `colours` makes of an even colour, computed here again."""
    powers = np.exp(np.array(colour) * (white / 255) * 5 * scale)
    return list(100 * powers / powers.sum())


# What it prints


def test_a_line_a_file_in_columns(
    model: Path, images: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    other = images.parent / "one more.jpg"
    Image.new("RGB", (30, 30), CLEAR["green"]).save(other)
    assert status(predict, model, images, other) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    files = [*(str(images / f"{name}.png") for name in ("blue", "green", "red")), str(other)]
    width = max(map(len, files))
    for line, file, best in zip(lines, files, ("blue", "green", "red", "green"), strict=True):
        assert line[:width].rstrip() == file
        cells = line[width:].split()
        assert cells[0] == best
        values = sorted(zip(shares(CLEAR[best]), NAMES, strict=True), reverse=True)
        assert cells[::2] == [name for _, name in values]
        got = [float(cell.removesuffix("%")) for cell in cells[1::2]]
        np.testing.assert_allclose(got, [share for share, _ in values], atol=0.06 if ".png" in file else 1)
    # The columns stand below each other.
    assert len({tuple(i for i, c in enumerate(line) if c == "%") for line in lines}) == 1


@pytest.mark.parametrize("top", [1, 2, 9])
def test_top(
    top: int, model: Path, images: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(predict, model, images, "--top", top) == 0
    assert [line.count("%") for line in capsys.readouterr().out.splitlines()] == [min(top, 3)] * 3


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
def test_the_size_of_batches_changes_nothing(
    batch_size: int, model: Path, images: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(predict, model, images) == 0
    usual = capsys.readouterr().out
    assert status(predict, model, images, "--batch-size", batch_size) == 0
    assert capsys.readouterr().out == usual


def test_logits_are_told_and_shown_as_shares(
    images: Path, tmp_path: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "logits.keras"
    colours(1 / 255, logits=True).save(path)
    model_card.write(path, NAMES, 255)
    assert status(predict, path, images / "red.png") == 0
    printed = capsys.readouterr()
    assert printed.err == (
        "note: the outputs do not sum to 1, so they are taken for logits and shown after softmax\n"
    )
    assert f"red   {shares(CLEAR['red'])[0]:5.1f}%" in printed.out


def test_outputs_that_are_no_numbers(
    images: Path, tmp_path: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nan.keras"
    colours(float("nan")).save(path)
    assert status(predict, path, images) == 2
    assert "error: the model answers with NaN or infinite numbers; check --highest" in capsys.readouterr().err


# Cards, names and the range of pixels


def test_without_a_card(
    model: Path, images: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    model_card.path_of(model).unlink()
    file = images / "blue.png"
    assert status(predict, model, file, "--top", 1) == 0
    printed = capsys.readouterr()
    assert printed.out.split()[1:] == ["2", f"{shares(CLEAR['blue'])[2]:.1f}%"]
    assert "model.json beside the model: white is 255 (--highest), the classes are 0, 1, 2" in printed.err
    assert status(predict, model, file, "--top", 1, "--classes", "a, b,c", "--highest", 1) == 0
    printed = capsys.readouterr()
    assert printed.out.split()[1:] == ["c", f"{shares(CLEAR['blue'], white=1)[2]:.1f}%"]
    assert printed.err == ""


def test_the_card_tells_the_range_and_options_go_before_it(
    images: Path, tmp_path: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.keras"
    colours(scale=1).save(path)
    model_card.write(path, NAMES, 1)
    file = images / "red.png"
    assert status(predict, path, file, "--top", 1) == 0
    assert capsys.readouterr().out.split()[1:] == ["red", f"{shares(CLEAR['red'])[0]:.1f}%"]
    assert status(predict, path, file, "--top", 1, "--highest", 0.1, "--classes", "r,g,b") == 0
    share = shares(CLEAR["red"], white=0.1, scale=1)[0]
    assert capsys.readouterr().out.split()[1:] == ["r", f"{share:.1f}%"]


def test_invert(
    model: Path, images: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(predict, model, images / "red.png", "--invert") == 0
    values = shares((5, 245, 250))
    cells = capsys.readouterr().out.split()[1:]
    assert cells == ["blue", f"{values[2]:.1f}%", "green", f"{values[1]:.1f}%", "red", f"{values[0]:.1f}%"]


# The grid


@pytest.mark.parametrize("count", [1, 3, 70])
def test_grid(
    count: int,
    model: Path,
    images: Path,
    tmp_path: Path,
    status: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [images / f"{name}.png" for name in (NAMES * 30)[:count]]
    drawn: list[tuple[list[Path], int]] = []
    real = predict.draw

    def spy(path: Path, read: list[Path], seen: list[np.ndarray], *rest: object) -> None:
        drawn.append((read, len(seen)))
        for file, picture in zip(read, seen):
            np.testing.assert_array_equal(picture, np.broadcast_to(CLEAR[file.stem], (8, 6, 3)))
        real(path, read, seen, *rest)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(predict, "draw", spy)
    grid = tmp_path / "new" / "grid.png"
    assert status(predict, model, *files, "--grid", grid, "--batch-size", 8) == 0
    assert drawn == [(files, min(count, predict.IN_GRID))]
    with Image.open(grid) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    # As much of each colour as of the others, give or take the pictures that come out uneven.
    shown = [(pixels == CLEAR[name]).all(axis=1).sum() for name in NAMES[:count]]
    assert min(shown) > 1000 and max(shown) < 1.2 * min(shown)


def test_grid_writes_names_as_they_are(tmp_path: Path) -> None:
    """Neither mathematics between dollars, nor letters that the font lacks, nor bytes that are no text."""
    files = [Path("a$x$.png"), Path("\udcff\udcfe.png"), Path("猫.png")]
    pictures = [np.zeros((4, 4, 1), "uint8")] * 3
    predict.draw(tmp_path / "a.png", files, pictures, np.eye(3, dtype="float32"), ["$\\bad$", "犬", "c" * 50])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# Whole runs


def test_a_model_of_train_lenet_on_files(
    tmp_path: Path, run: Callable[..., None], status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on a folder of pictures, then used on those of its own, black and white swapped too."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("left", "middle", "right")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(30):
            pixels = rng.integers(0, 80, (28, 28), "uint8")
            pixels[:, 9 * label : 9 * label + 9] += 170
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index:02}.png")
    model = tmp_path / "lenet.keras"
    options = ["--data", str(tmp_path / "data"), "--epochs", "12", "--batch-size", "20", "--save", str(model)]
    run(train_lenet, *options, "--log-dir", str(tmp_path / "log"))
    card = model_card.read(model)
    assert card == model_card.Card(("left", "middle", "right"), 1.0)

    (tmp_path / "ink").mkdir()
    with Image.open(tmp_path / "data" / "middle" / "03.png") as image:
        Image.fromarray(255 - np.asarray(image)).save(tmp_path / "ink" / "a.png")
    capsys.readouterr()
    for folder in ("left", "middle", "right"):
        assert status(predict, model, tmp_path / "data" / folder, "--top", 1) == 0
        assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [folder] * 30
    assert status(predict, model, tmp_path / "ink", "--top", 1, "--invert") == 0
    assert capsys.readouterr().out.split()[1] == "middle"
