"""The benchmark's workers: what becomes of one that fails, dies or is silent, and one tiny run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import benchmark
from bench import coordinator, peers
from bench.case import Case

SCRIPT = Path(benchmark.__file__)
CASE = Case("softmax", 32, steps=3, examples=96)


def fake_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> dict[str, str]:
    """An interpreter of the group "jax" that runs `body` instead of the worker."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return peers.interpreters([f"jax={script}"], sys.executable)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit('first line\\nno such device')", "exit status 1: no such device"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("print(json.dumps({'left_out': 'nothing there'}))", "nothing there"),
        (
            "print(json.dumps({'versions': {}}), flush=True); input()\n"
            "print(json.dumps({'parameters': 5}), flush=True); input()",
            "trains 5 parameters, not 7850",
        ),
    ],
)
def test_worker_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    pythons = fake_peer(tmp_path, monkeypatch, body)
    said: list[str] = []
    found, missing = coordinator.run(
        CASE, [peers.PEERS["jax"]], pythons, rounds=1, seconds=0.0, log=said.append
    )
    assert found == [] and missing == {"jax": reason}
    assert f"  jax left out: {reason}" in said


def test_worker_that_dies_in_its_turn_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        {"versions": {}},
        {"parameters": 7850, "first_step_s": 1.0, "steps": 3, "note": ""},
        {"us_per_step": 4.0, "seconds": 1.0},
    ]
    body = f"for answer in {answers}: print(json.dumps(answer), flush=True); input()"
    pythons = fake_peer(tmp_path, monkeypatch, body + "\nsys.exit('out of luck')")
    found, missing = coordinator.run(
        CASE, [peers.PEERS["jax"]], pythons, rounds=2, seconds=0.0, log=lambda text: None
    )
    assert found == [] and missing == {"jax": "exit status 1: out of luck"}


def test_missing_interpreter_is_left_out() -> None:
    pythons = peers.interpreters(["jax=/nowhere/python"], sys.executable)
    _, missing = coordinator.run(
        CASE, [peers.PEERS["jax"]], pythons, rounds=1, seconds=0.0, log=lambda text: None
    )
    assert missing == {"jax": "cannot start /nowhere/python: No such file or directory"}


def test_silent_worker_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pythons = fake_peer(tmp_path, monkeypatch, "time.sleep(60)")
    silent = coordinator.Worker(peers.PEERS["jax"], CASE, pythons["jax"], tmp_path, timeout=0.1)
    with pytest.raises(coordinator.WorkerDied, match="no answer for 0 seconds"):
        silent.answer()
    silent.stop()
    assert silent.process.returncode == -signal.SIGKILL


def test_interrupt_ends_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pidfile = tmp_path / "pid"
    body = f"open({str(pidfile)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    pythons = fake_peer(tmp_path, monkeypatch, body)
    child = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--parts", "steps", "--only", "jax"]
        + ["--network", "softmax", "--python", f"jax={pythons['jax']}"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has children ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (pidfile.exists() and pidfile.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int(pidfile.read_text()), 0)
    assert not list(tmp_path.glob("gradloop-bench-*"))


@pytest.mark.release
def test_tiny_run(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--json", str(out), "--parts", "steps"]
    command += ["--steps", "3", "--rounds", "1", "--seconds", "0", "--examples", "500"]
    command += ["--network", "softmax", "--batch-size", "32", "--only", "gradloop", "bare", "torch"]
    # An interpreter without PyTorch, whatever is installed here: the standard library alone.
    bare_python = tmp_path / "python"
    bare_python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare_python.chmod(0o755)
    command += ["--python", f"torch={bare_python}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "784-10 softmax, batch 32 (1 rounds, blocks of 3 steps)" in done.stdout
    assert "left out: torch: No module named 'torch'" in done.stdout
    report = json.loads(out.read_text())
    (case,) = report["cases"]
    assert [one["name"] for one in case["contenders"]] == ["gradloop", "bare"]
    for one in case["contenders"]:
        assert len(one["us_per_step"]) == 1 and one["us_per_step"][0] > 0
        assert one["first_step_s"] > 0 and one["peak_mb"] > 50 and 0 < one["loss"] < 10
        assert one["versions"]["tensorflow"]
    assert [wanted["against"] for wanted in case["wanted"]] == ["bare"]
