"""`--help` of every script says what is true; that it needs no TensorFlow is in test_packaging."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import finetune
from bench import startup

SCRIPTS = Path(finetune.__file__).parent
# A script, and something that its help says.
SAYS = {
    "benchmark": "x_train, y_train for the part steps; the others make their own",
    "check_devices": "weights that never move are 1 away",
    "compare_finetuning": "--ways",
    "compare_optimizers": "adadelta=1, rmsprop=0.001",
    "compare_regularizers": "l1=0.0001, l2=0.001, dropout=0.5",
    "find_lr": "--lowest",
    "finetune": "the same seed gives the same run on the CPU",  # on a GPU, sums have no fixed order
    "launch": "--parameter-servers",
    "predict": "--grid",
    "soak": "from its start on, also while it traces, validates or writes",
    "train_lenet": "--train-only",
}


def test_no_script_is_forgotten() -> None:
    assert [path.stem for path in startup.programs(SCRIPTS)] == sorted(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_help_says(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main()
    assert ended.value.code == 0 and SAYS[name] in " ".join(capsys.readouterr().out.split())


def test_quickstart_helps_before_it_installs(tmp_path: Path) -> None:
    """By a Python that has nothing installed."""
    bare = tmp_path / "scripts"
    bare.mkdir()
    for name in ("quickstart.sh", "environment.sh", "train_lenet.py"):
        shutil.copy(SCRIPTS / name, bare)
    shutil.copytree(SCRIPTS / "shared", bare / "shared")
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    done = subprocess.run(
        ["bash", str(bare / "quickstart.sh"), "--train-only", "conv", "--help"],
        env={**os.environ, "PYTHON": str(tmp_path / "bare" / "bin" / "python")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS["train_lenet"] in done.stdout and not (tmp_path / ".venv").exists()
