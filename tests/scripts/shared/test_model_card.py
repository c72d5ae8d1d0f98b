"""The card beside a saved model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shared import model_card
from shared.digit_images import DataError
from shared.model_card import Card


def test_written_and_read(tmp_path: Path) -> None:
    model = tmp_path / "my.cats.keras"
    path = model_card.write(model, ["Käse", "dog"], 255)
    assert path == tmp_path / "my.cats.json"
    assert json.loads(path.read_text("utf-8")) == {"class_names": ["Käse", "dog"], "highest": 255}
    assert '"highest": 255}' in path.read_text()  # as people write it
    assert model_card.read(model) == Card(("Käse", "dog"), 255.0)
    model_card.write(model, ("a", "b", "c"), 0.5)
    assert model_card.read(model) == Card(("a", "b", "c"), 0.5)
    assert [file.name for file in tmp_path.iterdir()] == ["my.cats.json"]


def test_none_there(tmp_path: Path) -> None:
    assert model_card.read(tmp_path / "model.keras") is None


def test_a_failure_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model.keras"
    model_card.write(model, ["a", "b"], 1)

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        model_card.write(model, ["c", "d"], 1)
    assert model_card.read(model) == Card(("a", "b"), 1.0)
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_unreadable(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.json: cannot be read as a model's card \(.*\); move it"):
        model_card.read(tmp_path / "model.keras")


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "model.json").mkdir()
    with pytest.raises(DataError, match=r"model\.json: cannot be read as a model's card \(.*directory"):
        model_card.read(tmp_path / "model.keras")


NAMES = ["a", "b"]
MALFORMED: list[tuple[object, str]] = [
    ([1], "it lacks class_names and highest"),
    ({"config": {}}, "it lacks class_names and highest"),
    ({"class_names": "ab", "highest": 1}, "class_names is no list of names"),
    ({"class_names": ["a", 2], "highest": 1}, "class_names is no list of names"),
    ({"class_names": ["a", ""], "highest": 1}, "class_names is no list of names"),
    ({"class_names": ["a"], "highest": 1}, "fewer than two different names"),
    ({"class_names": ["a", "a"], "highest": 1}, "one twice"),
    ({"class_names": NAMES, "highest": 0}, "highest is 0, no number above 0"),
    ({"class_names": NAMES, "highest": "255"}, "highest is '255'"),
    ({"class_names": NAMES, "highest": True}, "highest is True"),
    ({"class_names": NAMES, "highest": float("nan")}, "highest is nan"),
    ({"class_names": NAMES, "highest": float("inf")}, "highest is inf"),
]


@pytest.mark.parametrize(("content", "message"), MALFORMED)
def test_malformed(content: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"model\.json: is no model's card: .*{message}.*; wanted \{{"):
        model_card.read(tmp_path / "model.keras")


def test_nothing_wrong_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fewer than two different names or one twice"):
        model_card.write(tmp_path / "model.keras", ["a", "a"], 1)
    with pytest.raises(DataError, match="highest is -1"):
        model_card.write(tmp_path / "model.keras", NAMES, -1)
    assert list(tmp_path.iterdir()) == []


def test_more_in_a_card_does_no_harm(tmp_path: Path) -> None:
    content = {"class_names": NAMES, "highest": 1, "author": "me"}
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert model_card.read(tmp_path / "model.h5") == Card(("a", "b"), 1.0)
