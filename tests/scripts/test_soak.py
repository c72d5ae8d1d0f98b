"""soak.py: runs that are killed at random moments come to the same, and it sees if they do not."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

import soak

SOAK = Path(__file__).parents[2] / "scripts" / "soak.py"


def test_what_differs_is_told_by_name():
    wanted = {"state a": np.ones(3), "history loss": np.array([1.0, np.nan]), "gone": np.ones(1)}
    found = {"state a": np.ones(3), "history loss": np.array([1.0, np.nan]), "new": np.ones(1)}
    assert soak.differing(wanted, found, 0.0) == ["gone", "new"]
    found = {"state a": np.ones(3) + 1e-9, "history loss": np.array([1.0]), "gone": np.ones(1, np.float32)}
    assert soak.differing(wanted, found, 0.0) == ["gone", "history loss", "state a"]
    assert soak.differing(wanted, found, 1e-6) == ["gone", "history loss"]


def test_a_run_without_a_result(tmp_path):
    (tmp_path / "output.txt").write_text("no space left")
    with pytest.raises(RuntimeError, match="ended without a result(.|\n)*no space left"):
        soak.result(tmp_path)


@pytest.mark.parametrize("arguments, message", [(["--kills", "0"], "--kills"), (["--cases", "x"], "--cases")])
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        soak.parse(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("seen", [True, False])
def test_a_process_that_has_ended_is_not_killed(seen):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    part = SimpleNamespace(processes=[SimpleNamespace(pid=ended.pid, exitcode=0 if seen else None)])
    assert soak.Part.kill(cast(soak.Part, part), signal.SIGTERM, random.Random(0)) is False


@pytest.mark.release
def test_six_kills():
    """On one device, on replicas in a loop of its own, and on two workers."""
    cases = ["plan", "loop", "workers"]
    command = [sys.executable, str(SOAK), "--kills", "6", "--cases", *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    rows = [line.split() for line in done.stdout.splitlines()[-len(cases) :]]
    assert [row[0] for row in rows] == cases
    assert sum(int(row[1]) for row in rows) == 6 and {row[3] for row in rows} == {"0"}
