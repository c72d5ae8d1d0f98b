"""How the shell scripts find a Python and keep an environment, tried with pretended Pythons."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
TOOLS = ["bash", "cat", "cp", "dirname", "mkdir", "rm", "sha256sum", "touch"]

PRETENDED = """#!/bin/bash
case "$*" in
    *version_info*) echo {version} ;;
    *ensurepip*) exit {venv_exit} ;;
    "-m venv --clear "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; touch "$4/pyvenv.cfg" ;;
    *direct_url*) echo "${{INSTALLED_FROM:-}}" ;;
    "-m pip --version") ;;
    "-m pip install "*) echo "$*" >> "$PIP_LOG"; exit ${{PIP_EXIT:-0}} ;;
esac
"""


class Place:
    """A checkout with the scripts alone, and a PATH with nothing but what is put there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "check out"
        self.tools = folder / "tools"
        self.log = folder / "pip.log"
        self.venv = self.root / ".venv"
        (self.root / "scripts").mkdir(parents=True)
        self.tools.mkdir()
        shutil.copy(SCRIPTS / "environment.sh", self.root / "scripts")
        (self.root / "setup.cfg").write_text("[metadata]\n")
        (self.root / "pyproject.toml").write_text("[build-system]\n")
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found
            (self.tools / tool).symlink_to(found)

    def python(self, name: str, version: str, venv: bool = True) -> Path:
        path = self.tools / name
        path.write_text(PRETENDED.format(version=version, venv_exit=0 if venv else 1))
        path.chmod(0o755)
        return path

    def make(self, extra: str = "data", **variables: str) -> subprocess.CompletedProcess[str]:
        code = 'set -euo pipefail; source "$1"; make_environment "$2"; echo ready'
        script = str(self.root / "scripts" / "environment.sh")
        return subprocess.run(
            ["bash", "-c", code, "bash", script, extra],
            env={"PATH": str(self.tools), "PIP_LOG": str(self.log), **variables},
            cwd="/",
            capture_output=True,
            text=True,
        )

    def installs(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_installs_once(place: Place) -> None:
    place.python("python3", "3.12")
    first = place.make()
    assert first.returncode == 0, first.stderr
    assert "Python 3.12" in first.stdout and first.stdout.endswith("ready\n")
    assert f"--editable {place.root}[data]" in place.log.read_text()
    again = place.make()
    assert again.stdout == "ready\n" and place.installs() == 1


def test_installs_again_when_the_settings_change(place: Place) -> None:
    place.python("python3", "3.12")
    place.make()
    for name in ("setup.cfg", "pyproject.toml"):
        before = place.installs()
        with (place.root / name).open("a") as file:
            file.write("# changed\n")
        place.make()
        place.make()
        assert place.installs() == before + 1


def test_an_environment_of_another_checkout_is_told(place: Place, tmp_path: Path) -> None:
    place.python("python3", "3.12")
    assert "Note:" not in place.make(INSTALLED_FROM=str(place.root)).stderr
    place.venv.joinpath("gradloop-data.stamp").unlink()
    assert "Note:" not in place.make(INSTALLED_FROM="/a folder that is gone").stderr
    place.venv.joinpath("gradloop-data.stamp").unlink()
    told = place.make(INSTALLED_FROM=str(tmp_path))
    assert f"Note: {place.venv} was of {tmp_path}, and imports gradloop of {place.root}" in told.stderr
    assert place.installs() == 3


def test_constraints_reach_pip_and_count_as_a_change(place: Place) -> None:
    place.python("python3", "3.12")
    place.make()
    place.make(GRADLOOP_CONSTRAINTS="tensorflow==2.20.* keras==3.12.0")
    assert place.log.read_text().splitlines()[1].endswith(" tensorflow==2.20.* keras==3.12.0")


def test_dev_brings_data_along_but_not_the_other_way(place: Place) -> None:
    place.python("python3", "3.12")
    place.make("dev")
    place.make("docs")
    place.make("data")
    assert place.installs() == 1
    shutil.rmtree(place.venv)
    place.make("data")
    place.make("dev")
    assert place.installs() == 3


def test_a_failed_install_is_not_taken_for_done(place: Place) -> None:
    place.python("python3", "3.12")
    failed = place.make(PIP_EXIT="1")
    assert failed.returncode == 1 and "the install did not finish" in failed.stderr
    assert "ready" not in failed.stdout
    assert place.make().stdout.endswith("ready\n") and place.installs() == 2
    # A failure after a success does not leave the old mark either.
    (place.root / "setup.cfg").write_text("[metadata]\nname = x\n")
    place.make(PIP_EXIT="1")
    (place.root / "setup.cfg").write_text("[metadata]\n")
    place.make()
    assert place.installs() == 4


def test_skips_a_shim_that_does_not_run_and_a_python_out_of_range(place: Place) -> None:
    place.python("python3", "3.9")
    broken = place.tools / "python3.13"
    broken.write_text("#!/bin/bash\necho 'not installed' >&2; exit 127\n")
    broken.chmod(0o755)
    place.python("python3.12", "3.12", venv=False)
    place.python("python3.11", "3.11")
    assert "with Python 3.11" in place.make().stdout


def test_prefers_the_python_that_is_named(place: Place) -> None:
    place.python("python3", "3.12")
    place.python("mine", "3.10")
    assert "with Python 3.10" in place.make(PYTHON="mine").stdout


@pytest.mark.parametrize("version", ["3.9", "3.14", "2.7", "4.1", "3.100"])
def test_refuses_versions_out_of_range(version: str, place: Place) -> None:
    place.python("python3", version)
    done = place.make()
    assert done.returncode == 1
    assert f"error: python3 is Python {version}; gradloop needs 3.10 to 3.13" in done.stderr


def test_no_python_at_all(place: Place) -> None:
    done = place.make()
    assert done.returncode == 1
    assert done.stderr == "error: no Python found: sudo apt install python3 python3-venv\n"


def test_python_without_venv_says_which_package(place: Place) -> None:
    place.python("python3", "3.11", venv=False)
    assert "sudo apt install python3.11-venv" in place.make().stderr


def test_named_python_that_cannot_serve(place: Place) -> None:
    place.python("python3", "3.12")
    place.python("old", "3.8")
    assert "error: PYTHON=nothing does not run" in place.make(PYTHON="nothing").stderr
    assert "error: old is Python 3.8" in place.make(PYTHON="old").stderr
    assert not place.venv.exists()


def test_environment_of_another_python_is_not_touched(place: Place) -> None:
    place.python("python3", "3.12")
    place.python("python3.10", "3.10")
    place.make()
    done = place.make(PYTHON="python3.10")
    assert done.returncode == 1 and "has Python 3.12 but PYTHON=python3.10 is 3.10" in done.stderr
    assert "with Python 3.10" in place.make(PYTHON="python3.10", VENV=".venv-oldest").stdout


def test_environment_out_of_range_is_not_touched(place: Place) -> None:
    place.python("python3", "3.12")
    place.make()
    shutil.copy(place.python("python3", "3.14"), place.venv / "bin" / "python")
    assert ".venv has Python 3.14; gradloop needs 3.10 to 3.13" in place.make().stderr


def test_a_folder_that_is_no_environment_is_not_touched(place: Place) -> None:
    place.python("python3", "3.12")
    place.venv.mkdir()
    (place.venv / "thesis.txt").write_text("years of work")
    assert "exists and is no virtual environment" in place.make().stderr
    assert (place.venv / "thesis.txt").exists()


def test_a_broken_environment_is_made_again(place: Place) -> None:
    place.python("python3", "3.12")
    place.make()
    (place.venv / "bin" / "python").unlink()
    assert "Making" in place.make().stdout and place.installs() == 2
