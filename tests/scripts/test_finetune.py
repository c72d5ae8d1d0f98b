"""Fine-tuning from the command line: what it refuses at the door, and whole runs on small inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import finetune
import model_card

SCRIPT = Path(finetune.__file__)


@pytest.fixture
def small(tmp_path: Path) -> str:
    """Two classes, bright and dark."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"class_names": np.array(["dark", "bright"])}
    for part, count in (("train", 32), ("val", 8), ("test", 8)):
        y = np.arange(count) % 2
        x = rng.integers(0, 100, (count, 16, 16, 3)) + 150 * y[:, None, None, None]
        arrays |= {f"x_{part}": x.astype("uint8"), f"y_{part}": y}
    np.savez(tmp_path / "small.npz", **arrays)
    return str(tmp_path / "small.npz")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["finetune.py", *arguments])
    finetune.main()


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    """The one line that the script ends with."""
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *arguments)
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


OPTIONS = [
    (["--backbone", "VGG16"], "--backbone: LeNet-5 on digits has no use for it"),
    (["--from", "conv2", "--ema", "0"], "--from, --ema: LeNet-5 on digits has no use"),
    (["--data", "a", "--cache", "--augment", "flip"], "--cache keeps one version of each image"),
    (["--data", "a", "--cache", "--strategy", "all"], "--cache keeps what is frozen"),
    (["--data", "a", "--unfreeze", "0:head,0:all"], "epoch 0 comes twice in 0:head,0:all"),
    (["--data", "a", "--from", "b", "--strategy", "all"], "--from and --strategy both say what trains"),
    (["--data", "a", "--lr-lowest", "1"], "--lr-lowest 1 must be at most --lr-highest"),
    (["--data", "a", "--unfreeze", "head"], "--unfreeze: wanted EPOCH:FILTER"),
    (["--data", "a", "--unfreeze", "0:"], "--unfreeze: wanted EPOCH:FILTER"),
    (["--data", "a", "--unfreeze", "x:head"], "--unfreeze: wanted EPOCH:FILTER"),
    (["--data", "a", "--strategy", "tpo"], "tpo is unknown; did you mean top?"),
    (["--data", "a", "--augment", "flop"], "flop is unknown; did you mean flip?"),
    (["--data", "a", "--size", "8"], "--size: wanted a whole number at least 16, got 8"),
    (["--data", "a", "--save", "model.h5"], "--save: wanted the name of a .keras file, got model.h5"),
    (["--data", "a", "--devices", "multiworker"], "--devices multiworker: this script trains on one machine"),
    (["--data", "/nothing/here"], "/nothing/here: no such file or folder"),
    (["--examples", "5000"], "--examples 5000: there are"),
]


@pytest.mark.parametrize(("arguments", "message"), OPTIONS)
def test_refuses_options(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refusal(monkeypatch, capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


NETWORKS = [
    (["--backbone", "MobileNetV9"], "is no image network of keras.applications. Did you mean"),
    (["--from", "block9"], "block9"),
    (["--weights", "no.h5"], "`weights` must be None, 'imagenet' or a file, and 'no.h5' is no file"),
    (["--devices", "mirrored:two"], "mirrored:two"),
    (["--unfreeze", "0:head,7:all", "--epochs", "2"], "from epoch 7 on, and the run ends before"),
    (["--unfreeze", "0:haed"], "haed"),
]


@pytest.mark.parametrize(("arguments", "message"), NETWORKS)
def test_refuses_what_does_not_fit_the_network(
    arguments: list[str],
    message: str,
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = ["--data", small, "--backbone", "MobileNet", "--weights", "none", "--size", "32"]
    options = [*base, "--head-epochs", "0", "--log-dir", str(tmp_path / "logs")]
    assert message in refusal(monkeypatch, capsys, *options, *arguments)


@pytest.mark.parametrize("options", [
    ["--strategy", "head", "--cache"],
    ["--strategy", "auto", "--similar", "no", "--cache", "features"],
    ["--strategy", "all", "--augment", "flip", "--augment", "shift", "--unfreeze"],
    ["--from", "conv_pw_13", "--hidden", "4"],
])  # fmt: skip
def test_fine_tunes(
    options: list[str],
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["--data", small, "--backbone", "MobileNet", "--weights", "none", "--size", "32"]
    run(monkeypatch, *base, "--epochs", "2", "--head-epochs", "1", "--log-dir", "logs", *options)
    shown = capsys.readouterr().out
    assert "Test accuracy" in shown and "8 images that chose nothing" in shown
    model = keras.models.load_model(tmp_path / "logs" / "model.keras", compile=False)
    assert model.output_shape == (None, 2)
    card = model_card.read(tmp_path / "logs" / "model.keras")
    assert card == model_card.Card(("dark", "bright"), 255.0)
    assert (tmp_path / "logs" / "curves.png").exists()
    assert (tmp_path / "features" / "train").exists() == ("features" in options)


def test_digits_carry_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, "--examples", "20", "--epochs", "5", "--log-dir", "logs")
    shown = capsys.readouterr().out
    assert "20 of 5 to 9 to learn from" in shown
    rows = {line[:19].strip(): line[19:].split() for line in shown.splitlines() if line.count("%") > 5}
    frozen, nothing = (float(rows[name][0].rstrip("%")) for name in ("frozen convolutions", "from nothing"))
    assert frozen > nothing  # five updates: what starts from nothing has hardly begun
    assert (tmp_path / "logs" / "curves.png").exists()


def test_help_needs_no_tensorflow() -> None:
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
        f"sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--unfreeze" in done.stdout
