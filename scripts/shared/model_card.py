"""What a saved model does not tell and who uses it on files must know, in a file beside it.

``MODEL.json`` beside ``MODEL.keras``: ``{"class_names": ["cat", "dog"], "highest": 255}``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .array_files import DataError, one_line


@dataclass(frozen=True)
class Card:
    """The names of the outputs, in order, and the pixel value that the model takes for white."""

    class_names: tuple[str, ...]
    highest: float


def path_of(model_file: Path) -> Path:
    """Where the card of a model lies: beside it, with the suffix ``.json``."""
    return model_file.with_suffix(".json")


def write(model_file: Path, class_names: Sequence[str], highest: float) -> Path:
    """Writes the card of a model, whose file need not be there yet: all of it or nothing; returns where.

    For `highest`, networks that hold their preprocessing take 255, LeNet-5 takes 1.
    """
    path = path_of(model_file)
    white = int(highest) if float(highest).is_integer() else float(highest)
    content = {"class_names": [str(name) for name in class_names], "highest": white}
    _checked(path, content)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read(model_file: Path) -> Card | None:
    """The card of a model, or None where there is none; `DataError` for what is no card."""
    path = path_of(model_file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read as a model's card ({one_line(error)}); move it elsewhere, or "
            "write it again with model_card.write"
        ) from error
    return _checked(path, content)


def _checked(path: Path, content: object) -> Card:
    def refuse(found: str) -> DataError:
        return DataError(
            f'{path}: is no model\'s card: {found}; wanted {{"class_names": ["cat", "dog"], '
            '"highest": 255}'
        )

    if not isinstance(content, dict) or not {"class_names", "highest"} <= content.keys():
        raise refuse("it lacks class_names and highest")
    names, highest = content["class_names"], content["highest"]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise refuse("class_names is no list of names")
    if len(names) < 2 or len(set(names)) < len(names):
        raise refuse("class_names has fewer than two different names or one twice")
    number = isinstance(highest, (int, float)) and not isinstance(highest, bool)
    if not number or not 0 < highest < math.inf:
        raise refuse(f"highest is {highest!r}, no number above 0")
    return Card(tuple(names), float(highest))
