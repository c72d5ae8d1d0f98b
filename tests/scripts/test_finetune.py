"""Fine-tuning from the command line: what it refuses at the door, and whole runs on small inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from gradloop import models, optim

import finetune
from shared import digits_transfer, model_card, photos
from shared import recipe as fine_tuning
from shared import trained_variables


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
    (
        ["--data", "a", "--unfreeze", "0:head,7:all", "--epochs", "2"],
        "--unfreeze: epoch 7 never comes, since --epochs 2 counts from 0 to 1",
    ),
    (["--data", "a", "--unfreeze", "6:all"], "--unfreeze: epoch 6 never comes, since --epochs 6"),
    (["--data", "a", "--unfreeze", "--strategy", "head"], "--strategy head trains the head alone"),
    (["--data", "a", "--unfreeze", "1:all", "--strategy", "top"], "--strategy and the stages of --unfreeze"),
    (["--data", "a", "--unfreeze", "1:all", "--from", "b"], "--from and the stages of --unfreeze both say"),
    (["--data", "a", "--weights", "no.h5"], "--weights: wanted imagenet, none or an .h5 file that is there"),
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
    refusal: Callable[..., str],
    digits_parsed_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refusal(finetune, *arguments)
    assert list(tmp_path.iterdir()) == []


NETWORKS = [
    (["--backbone", "MobileNetV9"], "is no image network of keras.applications. Did you mean"),
    (["--backbone", "Xception"], "`input_shape` (32, 32, 3) does not fit Xception"),
    (["--weights", "bad.h5"], "`weights` 'bad.h5' are not those of SmallNet"),
    (["--devices", "mirrored:two"], "mirrored:two"),
    (["--from", "block9"], "block9"),
    (["--unfreeze", "0:haed"], "haed"),
    (["--unfreeze", "0:head,1:conv1_bn"], "none in common"),  # BatchNorm, which never trains
    (["--unfreeze", "--from", "head"], "here the head alone trains"),
    (["--unfreeze", "--from", "conv5_bn"], "here the head alone trains"),
    (["--unfreeze", "--cache"], "--cache keeps what is frozen, and here all trains from conv1 on"),
    (["--unfreeze", "2:all", "--cache"], "--cache keeps what is frozen, and here all trains from conv1 on"),
    (["--backbone", "EfficientNetB0", "--from", "stem_conv", "--cache"], "all trains from stem_conv on"),
    (["--from", "conv1", "--cache"], "--cache keeps what is frozen, and here all trains from conv1 on"),
]


@pytest.mark.parametrize(("arguments", "message"), NETWORKS)
def test_refuses_what_does_not_fit_the_network_before_reading_images(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    refusal: Callable[..., str],
    small_net: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(photos, "load", lambda *_: pytest.fail("the images were read first"))
    (tmp_path / "bad.h5").write_bytes(b"no weights")
    base = ["--data", ".", "--backbone", "SmallNet", "--weights", "none", "--size", "32"]
    assert message in refusal(finetune, *base, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.h5"]


def test_a_cache_of_nothing_is_refused_before_the_head_is_trained(
    small: str, small_net: None, tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many images there are says here that the whole network trains."""
    choice = {1: "head", 32: "all"}
    monkeypatch.setattr(models, "recommend", lambda images, _: models.Strategy.named(choice[images]))
    monkeypatch.setattr(fine_tuning, "train_head", lambda *_: pytest.fail("the head was trained first"))
    base = ["--data", small, "--backbone", "SmallNet", "--weights", "none", "--size", "32", "--cache"]
    assert "here all trains from conv1 on" in refusal(finetune, *base, "--log-dir", tmp_path / "logs")


@pytest.mark.parametrize("strategy", ["all", "top"])
def test_unfreezing_is_of_the_whole_network_unless_a_strategy_says_less(
    strategy: str,
    small: str,
    small_net: None,
    tmp_path: Path,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So few images would be for the head alone, if `--unfreeze` left that open."""

    def fine_tune(model: Any, trained: Any, _: Any, __: Any, recipe: Any, **___: Any) -> None:
        plan = fine_tuning.plan_of(model, trained, recipe)
        wanted = optim.partition(model, models.Strategy.named(strategy)).trained
        assert recipe.unfreeze == "top-down"
        assert [v.path for v in plan.trained] == [v.path for v in wanted if "_bn/" not in v.path]
        raise ValueError("seen enough")

    monkeypatch.setattr(finetune, "fine_tune", fine_tune)
    base = ["--data", small, "--backbone", "SmallNet", "--weights", "none", "--size", "32", "--unfreeze"]
    options = ["--log-dir", tmp_path / "logs", *([] if strategy == "all" else ["--strategy", strategy])]
    assert refusal(finetune, *base, *options) == "error: seen enough"


@pytest.mark.parametrize("text", ["2:conv[3-5],4:all", "0:conv5", "0:head,1:conv1"])
def test_the_head_trains_from_the_start_whatever_stages_come(text: str, small_net: None) -> None:
    model = models.classifier(models.backbone("SmallNet", (32, 32, 3)), 2, hidden=(4,))
    trained, stages = trained_variables.unfreeze_stages(model, [], trained_variables.stages(text))
    head = {v.path for v in optim.select(model, "head")}
    assert stages is not None and len(head) == 4 and head <= {v.path for v in optim.select(model, stages[0])}
    assert head <= {v.path for v in trained} and not [v.path for v in trained if "_bn/" in v.path]
    named = {int(part.split(":")[0]) for part in text.split(",")}
    assert set(stages) == {0} | named


@pytest.mark.parametrize(("network", "options"), [
    pytest.param("MobileNet", ["--strategy", "head", "--cache"], marks=pytest.mark.long),
    pytest.param("SmallNet", ["--strategy", "auto", "--similar", "no", "--cache", "features"],
                 marks=pytest.mark.release),
    ("SmallNet", ["--strategy", "all", "--augment", "flip", "--augment", "shift", "--unfreeze"]),
    ("SmallNet", ["--from", "conv5", "--hidden", "4", "--preflight"]),
    ("SmallNet", ["--strategy", "top", "--cache", "--unfreeze"]),
    pytest.param("SmallNet", ["--unfreeze", "1:conv5"], marks=pytest.mark.long),
])  # fmt: skip
def test_fine_tunes(
    network: str,
    options: list[str],
    small: str,
    small_net: None,
    tmp_path: Path,
    run: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["--data", small, "--backbone", network, "--weights", "none", "--size", "32"]
    run(finetune, *base, "--epochs", "2", "--head-epochs", "1", "--log-dir", "logs", *options)
    shown = capsys.readouterr().out
    assert "Test accuracy" in shown and "8 images that chose nothing" in shown
    assert ("Preflight: " in shown) == ("--preflight" in options)
    model = keras.models.load_model(tmp_path / "logs" / "model.keras", compile=False)
    assert model.output_shape == (None, 2)
    card = model_card.read(tmp_path / "logs" / "model.keras")
    assert card == model_card.Card(("dark", "bright"), 255.0)
    assert (tmp_path / "logs" / "curves.png").exists()
    assert (tmp_path / "features" / "train").exists() == ("features" in options)


@pytest.mark.release
def test_digits_carry_over(
    tmp_path: Path,
    run: Callable[..., None],
    digits_parsed_once: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(digits_transfer, "_SOURCE_EPOCHS", 3)  # enough for the order of the two
    monkeypatch.setattr(digits_transfer, "RUNS", 2)
    monkeypatch.chdir(tmp_path)
    run(finetune, "--examples", "20", "--epochs", "5", "--log-dir", "logs")
    shown = capsys.readouterr().out
    assert "20 of 5 to 9 to learn from" in shown
    rows = {line[:19].strip(): line[19:].split() for line in shown.splitlines() if line.count("%") == 4}
    frozen, nothing = (float(rows[name][0].rstrip("%")) for name in ("frozen convolutions", "from nothing"))
    assert frozen > nothing  # five updates: what starts from nothing has hardly begun
    assert (tmp_path / "logs" / "curves.png").exists()
