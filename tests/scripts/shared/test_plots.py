"""The picture of a run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared import plots


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_draws_a_picture_with_both_lines(epochs: int, tmp_path: Path) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    falling = list(np.linspace(2.0, 0.1, epochs))
    rising = list(np.linspace(0.1, 0.98, epochs))
    history = {"loss": falling, "val_loss": falling, "accuracy": rising, "val_accuracy": rising}
    plots.draw(history, tmp_path / "curves.png", "a run")
    pixels = imread(tmp_path / "curves.png")[..., :3]
    assert pixels.shape[1] > pixels.shape[0] > 400
    for colour in (plots.TEST_COLOUR,):
        assert (np.abs(pixels - np.array(to_rgb(colour))) < 0.02).all(axis=-1).sum() > 50


def test_needs_no_screen_and_no_pyplot(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(plots.__file__).parents[1])!r})\n"
        "from shared import plots\n"
        "from pathlib import Path\n"
        "h = dict.fromkeys(['loss', 'val_loss', 'accuracy', 'val_accuracy'], [0.5, 0.4])\n"
        "plots.draw(h, Path('a.png'), 'x')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("epochs", [1, 60])
def test_compares_runs_each_in_its_colour(epochs: int, tmp_path: Path) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    histories = {}
    for number in range(len(plots.PALETTE)):
        falling = list(np.geomspace(2.0, 0.01 * (number + 1), epochs))
        rising = list(np.linspace(0.1, 0.98 - 0.03 * number, epochs))
        histories[f"run {number}"] = {
            "loss": falling,
            "val_loss": falling,
            "accuracy": rising,
            "val_accuracy": rising,
        }
    # One that ended early, far from the others.
    histories["run 3"] = {"loss": [900.0], "val_loss": [9e5], "accuracy": [0.0], "val_accuracy": [0.0]}
    plots.compare(histories, plots.PALETTE, tmp_path / "runs.png", "seven runs")
    pixels = imread(tmp_path / "runs.png")[..., :3]
    assert pixels.shape[1] > pixels.shape[0] > 400
    for colour in plots.PALETTE:
        assert (np.abs(pixels - np.array(to_rgb(colour))) < 0.02).all(axis=-1).sum() > 50


def coloured(path: Path, colour: str) -> int:
    """Pixels of one colour in a picture."""
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    pixels = imread(path)[..., :3]
    return int((np.abs(pixels - np.array(to_rgb(colour))) < 0.02).all(axis=-1).sum())


def test_ranges_and_dots_show_every_name_in_its_colour(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = {name: rng.random((3, 5)).tolist() for name in ("one", "two")}
    plots.ranges(runs, tmp_path / "ranges.png", "two names")
    plots.dots({name: values[0] for name, values in runs.items()}, tmp_path / "dots.png", "two names")
    for name in ("ranges", "dots"):
        for number, colour in enumerate(plots.PALETTE[:3]):
            assert (coloured(tmp_path / f"{name}.png", colour) > 50) == (number < 2)


def test_says_where_the_picture_is_or_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn: list[Path] = []
    plots.save(Path("a b.png"), drawn.append)
    assert drawn == [Path("a b.png")]
    assert capsys.readouterr().out == "Curves       xdg-open 'a b.png'\n"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    plots.save(Path("c.png"), drawn.append)
    assert len(drawn) == 1 and 'pip install "gradloop[data]"' in capsys.readouterr().out
