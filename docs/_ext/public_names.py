"""The public names of gradloop and the rooms that define them, read from the source without importing it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("optim", "loops", "models")
# Shown with these rooms, though the modules that define them lie deeper, where others need them.
SHOWN_WITH = {"Preempted": "training", "check_log_dir": "tensorboard_log", "record": "step"}


class Public(NamedTuple):
    """A name in `gradloop.PACKAGE.__all__`, and the folder of the module that defines it."""

    package: str
    room: str
    name: str

    @property
    def page(self) -> str:
        """The page in docs/, without an ending."""
        return f"api/gradloop.{self.package}.{self.name}"


def public_names(package: str) -> list[Public]:
    """In the order of the alphabet."""
    rooms: dict[str, str] = {}
    listed: list[str] = []
    for node in ast.parse((ROOT / package / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            rooms |= {alias.asname or alias.name: node.module.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = ast.literal_eval(node.value)
    return [
        Public(package, SHOWN_WITH.get(name, rooms[name]), name) for name in sorted(listed, key=str.lower)
    ]


def rooms_of(package: str) -> dict[str, list[Public]]:
    """Public names by room, the rooms as the map in CONTRIBUTING.md has them: from the top floor down."""
    found: dict[str, list[Public]] = {}
    for public in public_names(package):
        found.setdefault(public.room, []).append(public)
    words = (ROOT / "CONTRIBUTING.md").read_text().partition("\n" + package + "/")[2].split()
    return dict(sorted(found.items(), key=lambda item: words.index(item[0])))


def room_text(package: str, room: str) -> tuple[str, str]:
    """What the README of a room says it is: its title, and the paragraphs before its list of files."""
    title, _, rest = (ROOT / package / room / "README.md").read_text().partition("\n")
    paragraphs = []
    for paragraph in rest.strip().split("\n\n"):
        if paragraph.startswith(("- ", "1. ", "In reading order")):
            break
        paragraphs.append(paragraph)
    return title.removeprefix("# "), "\n\n".join(paragraphs)
