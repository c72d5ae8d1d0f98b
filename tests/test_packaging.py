"""What the packages promise as packages: public names, who imports whom, what an import pulls in."""

from __future__ import annotations

import ast
import configparser
import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PUBLIC = {
    "optim": [
        "named_variables",
        "select",
        "name",
        "layer_type",
        "kind",
        "layers",
        "from_layer",
        "last_layers",
        "VariableInfo",
        "SelectionError",
        "NotBuiltError",
        "summary",
        "variable_infos",
        "Group",
        "partition",
        "Plan",
        "layerwise_decay",
        "discriminative",
        "GroupedOptimizer",
        "OneCycle",
        "SlantedTriangular",
        "lr_range_test",
        "depths",
        "StateError",
    ],
    "models": [
        "LeNet5",
        "lenet5_sequential",
        "lenet5_functional",
        "backbone",
        "networks",
        "classifier",
        "truncate",
        "recommend",
        "Strategy",
        "cache_frozen",
        "Cached",
        "save_weights",
        "load_weights",
    ],
    "loops": [
        "strategy",
        "Batches",
        "Update",
        "TrainStep",
        "EvalStep",
        "evaluate",
        "train",
        "replicated",
        "mean_loss",
        "ProgressBar",
        "TensorBoard",
        "NonFiniteError",
        "Unfreeze",
        "Checkpoint",
        "StepsCallback",
    ],
}
MAY_IMPORT: dict[str, set[str]] = {"optim": set(), "models": {"optim"}, "loops": {"optim"}}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_there(package: str) -> None:
    module = importlib.import_module(f"gradloop.{package}")
    assert set(PUBLIC[package]) <= set(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    assert [each for each in module.__all__ if not hasattr(module, each)] == []


def house_imports(package: str, path: Path) -> set[str]:
    """The packages of ours that a module imports, whichever way it writes it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from . import x` is one of the same package, `from ..optim import x` is not.
            depth = len(path.relative_to(ROOT).parts) - 1
            if 0 < node.level <= depth:
                continue
            start = "gradloop" if node.level else ""
            stem = ".".join(filter(None, [start, node.module]))
            targets = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        for target in targets:
            parts = target.split(".")
            if parts[0] == "gradloop" and len(parts) > 1:
                found.add(parts[1])
    return (found & set(PUBLIC)) - {package}


@pytest.mark.parametrize("package", PUBLIC)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        extra = house_imports(package, path) - MAY_IMPORT[package]
        assert not extra, f"{path.relative_to(ROOT)} imports {', '.join(sorted(extra))}"


def test_the_import_check_sees_every_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "optim").mkdir()
    path = tmp_path / "optim" / "a.py"
    for line in (
        "import gradloop.loops",
        "from gradloop import loops",
        "from gradloop.loops import train",
        "from .. import loops",
        "from ..loops import train",
        "def f():\n    from ..loops.step import TrainStep",
    ):
        path.write_text(line)
        assert house_imports("optim", path) == {"loops"}, line
    path.write_text("from . import names\nfrom .names import a\nimport keras\nfrom gradloop import optim")
    assert house_imports("optim", path) == set()


@functools.cache
def modules_after(code: str) -> set[str]:
    """What a fresh Python has imported after running the code, as top-level names."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", PUBLIC)
def test_imports_pull_in_only_what_the_package_needs(package: str) -> None:
    needs = {"optim": set(), "models": set(), "loops": {"tqdm", "tensorboard"}}[package]
    extra = modules_after(f"import gradloop.{package}") - modules_after("import tensorflow, keras")
    extra -= {"gradloop"} | set(sys.stdlib_module_names)
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
    assert packages == [f"gradloop.{name}" for name in sorted(PUBLIC)]
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
