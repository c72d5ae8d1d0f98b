"""What the packages promise as packages: public names, who imports whom, what an import pulls in."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PUBLIC = {
    "optim": """
        Filter FilterLike Group GroupedOptimizer KernelDecay LRCurve NotBuiltError OneCycle Plan
        SelectionError SlantedTriangular StateError VariableInfo depths discriminative from_layer kind
        last_layers layer_type layers layerwise_decay lr_range_test name named_variables partition
        select summary variable_infos
    """,
    "models": """
        Cached LeNet5 Strategy backbone cache_frozen classifier lenet5_functional lenet5_sequential
        load_weights networks recommend save_weights truncate
    """,
    "loops": """
        BatchIterator Batches Best Checkpoint EvalStep Every LabelError Latest NonFiniteError Preempted
        ProgressBar Records Restore Spike StepsCallback TensorBoard TrainStep Unfreeze Update Watch
        check_log_dir evaluate graceful_exit is_chief mean_loss preflight record replicated strategy train
    """,
}
MAY_IMPORT: dict[str, set[str]] = {"optim": set(), "models": {"optim"}, "loops": {"optim"}}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_there(package: str) -> None:
    module = importlib.import_module(f"gradloop.{package}")
    assert sorted(PUBLIC[package].split()) == sorted(module.__all__)
    assert [each for each in module.__all__ if not hasattr(module, each)] == []


# The rooms of each package, from the top floor to the ground. A room imports from lower floors alone.
STAIRCASE = {
    "loops": [
        {"training"},
        {"checkpoint", "tensorboard_log"},
        {"callbacks", "preflight_checks"},
        {"step"},
        {"device", "loss", "update"},
        {"distribute"},
        {"data"},
        {"support"},
    ],
    "optim": [
        {"learning_rate", "optimizer"},
        {"groups", "updates"},
        {"filters", "gradients"},
        {"naming"},
        {"common", "private"},
    ],
    "models": [{"feature_cache", "lenet", "pretrained", "weights"}, {"graph"}],
}


def imported_rooms(path: Path, root: Path) -> set[tuple[str, str]]:
    """What a module imports of ours, as (package, room) with "" for the package itself."""
    place = ["gradloop", *path.relative_to(root).with_suffix("").parts]
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = [*place[: len(place) - node.level]] if node.level else []
            stem += (node.module or "").split(".") if node.module else []
            # A name may be a module: `from . import keras_private`.
            targets = [".".join([*stem, alias.name]) for alias in node.names]
        for target in targets:
            parts = target.split(".")
            if parts[0] == "gradloop" and len(parts) > 1 and parts[1] in STAIRCASE:
                rooms = set().union(*STAIRCASE[parts[1]])
                found.add((parts[1], parts[2] if len(parts) > 2 and parts[2] in rooms else ""))
    return found


def against_the_staircase(root: Path) -> list[str]:
    """Each import that runs up, within a package or between packages."""
    faults = []
    for package, floors in STAIRCASE.items():
        floor_of = {room: number for number, rooms in enumerate(floors) for room in rooms}
        for path in sorted((root / package).rglob("*.py")):
            inside = path.relative_to(root / package).parts
            room = inside[0] if len(inside) > 1 else ""
            for other, target in sorted(imported_rooms(path, root)):
                if other != package:
                    allowed = other in MAY_IMPORT[package]
                elif room == "":  # the package's own `__init__` shows what the rooms hold
                    allowed = True
                else:
                    allowed = target == room or target != "" and floor_of[target] > floor_of[room]
                if not allowed:
                    faults.append(f"{path.relative_to(root)} imports {other}.{target}")
    return faults


def test_imports_run_down_the_staircase() -> None:
    assert against_the_staircase(ROOT) == []


@pytest.mark.parametrize("package", PUBLIC)
def test_every_room_has_its_floor_and_no_public_name(package: str) -> None:
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert rooms == set().union(*STAIRCASE[package])
    module = importlib.import_module(f"gradloop.{package}")
    assert not rooms & set(module.__all__)
    # All else is in a room.
    assert [path.name for path in (ROOT / package).glob("*.py")] == ["__init__.py"]


def test_the_staircase_check_sees_every_spelling(tmp_path: Path) -> None:
    (tmp_path / "optim" / "naming").mkdir(parents=True)
    path = tmp_path / "optim" / "naming" / "a.py"
    for line in (
        "import gradloop.loops",
        "from gradloop import loops",
        "from gradloop.loops import train",
        "from ... import loops",
        "from ...loops import train",
        "def f():\n    from ...loops.step.train_step import TrainStep",
        "from ..groups.plan import Plan",
        "from ..groups import plan",
        "from .. import groups",
        "from gradloop.optim.groups.plan import Plan",
        "from .. import select",  # by way of the package's own `__init__`
    ):
        path.write_text(line)
        assert len(against_the_staircase(tmp_path)) == 1, line
    path.write_text(
        "from . import names\nfrom .names import a\nimport keras\nfrom ..private import keras_private"
    )
    assert against_the_staircase(tmp_path) == []


@pytest.mark.release  # seconds for what few changes touch: a new import of another library
def test_imports_pull_in_only_what_the_package_needs() -> None:
    # In one process, as it takes seconds: each package after those that it may import.
    code = "import sys\n"
    for imported in ("tensorflow, keras", "gradloop.optim", "gradloop.models", "gradloop.loops"):
        code += f"import {imported}\nprint(*{{name.split('.')[0] for name in sys.modules}})\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, *after = [set(line.split()) for line in done.stdout.splitlines()]
    for modules, needs in zip(after, (set(), set(), {"tqdm", "tensorboard"}), strict=True):
        extra = modules - before - {"gradloop"} - set(sys.stdlib_module_names)
        assert {name for name in extra if not name.startswith("_")} <= needs


PROGRAMS = sorted(
    path for path in (ROOT / "scripts").glob("*.py") if '__name__ == "__main__"' in path.read_text()
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: str(path.name))
def test_help_answers_without_tensorflow(program: Path, tmp_path: Path) -> None:
    for heavy in ("tensorflow", "keras", "mlxtend", "matplotlib", "torch", "jax"):
        (tmp_path / f"{heavy}.py").write_text(f"raise SystemExit('{heavy} was imported')")
    done = subprocess.run(
        [sys.executable, str(program), "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("usage:") and done.stderr == ""


def test_there_are_programs() -> None:
    assert "train_lenet.py" in [path.name for path in PROGRAMS]


def test_settings_name_what_is_there() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    packages = settings["options"]["packages"].split()
    folders = [path.parent for name in PUBLIC for path in (ROOT / name).rglob("*.py")]
    assert packages == sorted({".".join(["gradloop", *each.relative_to(ROOT).parts]) for each in folders})
    for name in PUBLIC:
        assert (ROOT / name / "py.typed").exists()
    assert (ROOT / settings["metadata"]["license_files"]).exists()


def test_build_table_is_all_of_pyproject() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[build-system]"]


def test_scripts_that_are_shown_as_commands_can_be_run_as_such() -> None:
    shown = (ROOT / "README.md").read_text()
    for script in (ROOT / "scripts").glob("*.py"):
        commands = [line for line in shown.splitlines() if line.strip().startswith(f"scripts/{script.name}")]
        if commands or os.access(script, os.X_OK):
            assert os.access(script, os.X_OK), f"{script.name} is shown as a command and not executable"
            assert script.read_text().startswith("#!/usr/bin/env python3\n"), script.name


READMES = [
    ROOT / package / room / "README.md"
    for package, floors in STAIRCASE.items()
    for rooms in floors
    for room in sorted(rooms)
]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_room_lists_its_files(readme: Path) -> None:
    files = {path.stem for path in readme.parent.glob("*.py")} - {"__init__"}
    assert [name for name in files if not re.search(rf"\b{name}\b", readme.read_text())] == []
    named = set(re.findall(r"(?<![\w/])(\w+)\.py\b", readme.read_text()))
    assert named <= {path.stem for name in PUBLIC for path in (ROOT / name).rglob("*.py")}


def test_the_map_shows_what_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`\.?/?((?:\.ci|docs|loops|models|optim|scripts|tests)/[\w./]*)", text)
    assert len(paths) > 20 and [path for path in paths if not (ROOT / path).exists()] == []
    assert [
        room for floors in STAIRCASE.values() for rooms in floors for room in rooms if room not in text
    ] == []
