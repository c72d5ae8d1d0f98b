"""The benchmark: its arithmetic on made-up figures, its command line, its workers, and one tiny run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import benchmark
import numpy as np
import pytest

from bench import coordinator, data, figures, peers, startup, tables, worker
from bench.case import NETWORKS, Case, Contender, steps_in_block
from bench.figures import Result, Verdict

SCRIPT = Path(benchmark.__file__)
CASE = Case("softmax", 32, steps=3, examples=96)


def results(**us_per_step: list[float]) -> list[Result]:
    return [
        Result(name.replace("_", "-"), values, first_step_s=0.5, peak_mb=900.0, steps=3, loss=1.0)
        for name, values in us_per_step.items()
    ]


# Statistics


def test_ratio_is_taken_within_each_round() -> None:
    # The machine was ten times slower in round 2; a ratio of medians would give 2.7.
    ours, peer = [10.0, 100.0, 11.0], [30.0, 310.0, 22.0]
    assert figures.ratio(peer, ours) == pytest.approx(3.0)
    assert np.median(peer) / np.median(ours) == pytest.approx(30 / 11)


def test_ratio_of_an_even_number_of_rounds_is_the_mean_of_the_middle_two() -> None:
    assert figures.ratio([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0]) == 2.5


@pytest.mark.parametrize("pair", [([], []), ([1.0], [1.0, 2.0])])
def test_ratio_wants_equal_rounds(pair: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="the same number, at least one"):
        figures.ratio(*pair)


def test_median_of_blocks() -> None:
    assert Result("fit", [5.0, 1.0, 3.0]).median_us == 3.0


def test_every_contender_is_compared_with_gradloop() -> None:
    found = figures.to_base(results(gradloop=[10.0, 20.0], fit=[25.0, 50.0]))
    assert found == {"gradloop": 1.0, "fit": 2.5}
    assert figures.to_base(results(fit=[25.0])) == {}


@pytest.mark.parametrize(
    ("ratio", "word"), [(2.49, "missed"), (2.5, "met"), (2.99, "met"), (3.0, "reached")]
)
def test_target_words(ratio: float, word: str) -> None:
    assert Verdict("fit", ratio, at_least=2.5, reach_for=3.0).word == word


@pytest.mark.parametrize(("ratio", "word"), [(0.9, "met"), (1.05, "met"), (1.051, "missed")])
def test_limit_words(ratio: float, word: str) -> None:
    assert Verdict("bare", ratio, at_least=1.05, reach_for=None, limit=True).word == word


def test_verdicts_of_a_case() -> None:
    found = figures.verdicts(
        "lenet5",
        32,
        results(gradloop=[100.0] * 3, fit=[260.0] * 3, torch=[150.0] * 3, bare=[99.0] * 3),
    )
    assert [(v.against, v.word, v.limit) for v in found] == [
        ("fit", "met", False),
        ("torch", "missed", False),
        ("bare", "met", True),
    ]
    # A limit is gradloop's time over the peer's, a target the other way round.
    assert found[-1].ratio == pytest.approx(100 / 99)
    assert figures.verdicts("lenet5", 32, results(fit=[1.0])) == []


def test_targets_name_what_exists() -> None:
    for network, batch_size, peer, least, hoped in figures.TARGETS:
        assert network in NETWORKS and batch_size in (32, 128) and peer in peers.PEERS
        assert 0 < least < hoped
    assert set(figures.LIMITS) <= set(peers.PEERS)


# Blocks and turns


@pytest.mark.parametrize(
    ("network", "wanted", "batch_size", "steps"),
    [
        ("softmax", None, 32, 1850),
        ("softmax", None, 128, 450),
        ("lenet5", None, 32, 500),
        ("lenet5", None, 128, 100),
        ("lenet5", 3, 32, 3),
        ("lenet5", 9999, 128, 468),
        ("lenet5", None, 20_000, 3),
    ],
)
def test_block_length(network: str, wanted: int | None, batch_size: int, steps: int) -> None:
    assert steps_in_block(network, wanted, 60_000, batch_size) == steps


def test_data_must_fill_a_batch() -> None:
    with pytest.raises(ValueError, match="`batch_size` is 32 but the data holds 31"):
        steps_in_block("softmax", None, 31, 32)


class Slow(Contender):
    """Takes a fixed time a step on a clock of its own."""

    parameters = 0

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.now, self.blocks = seconds, 0.0, list[int]()
        monkeypatch.setattr("bench.worker.time.perf_counter", lambda: self.now)

    def block(self, steps: int) -> None:
        self.blocks.append(steps)
        self.now += steps * self.seconds

    def loss(self, images: Any, labels: Any) -> float:
        return 0.0


def test_turn_is_filled_with_whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(0.25, monkeypatch)
    assert worker.measure(slow, steps=4, seconds=2.5) == pytest.approx((0.25e6, 3.0))
    assert slow.blocks == [4, 4, 4]


def test_slow_contender_gets_shorter_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(0.02, monkeypatch)
    assert worker.warm_up(slow, 500) == 150
    assert slow.blocks == [50, 50, 150] and slow.note == "blocks of 150 steps"


def test_block_is_never_shorter_than_the_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(1.0, monkeypatch)
    assert worker.warm_up(slow, 30) == 30 and worker.warm_up(slow, 500) == 50
    assert slow.blocks == [30, 30, 50, 50]


def test_quick_contender_keeps_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Slow(0.001, monkeypatch)
    assert worker.warm_up(quick, 500) == 500
    assert quick.blocks == [50, 50, 500] and not quick.note


# Data


def test_synthetic_data_is_fixed_and_in_layout() -> None:
    flat, labels = data.load("softmax", 50, None)
    square, same = data.load("lenet5", 50, None)
    assert flat.shape == (50, 784) and square.shape == (50, 28, 28, 1)
    np.testing.assert_array_equal(flat.reshape(square.shape), square)
    np.testing.assert_array_equal(labels, same)
    assert flat.dtype == np.float32 and 0 <= flat.min() and flat.max() <= 1
    assert 0.05 < flat.mean() < 0.2


def test_data_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    pixels = np.full((4, 28, 28), 51, np.uint8)
    np.savez(path, x_train=pixels, y_train=np.array([0, 1, 2, 9], np.uint8))
    images, labels = data.load("lenet5", 0, str(path))
    np.testing.assert_allclose(images, 0.2)
    assert images.shape == (4, 28, 28, 1) and labels.tolist() == [0, 1, 2, 9]


GOOD = np.zeros((4, 28, 28), np.uint8)
BAD_ARRAYS: dict[str, dict[str, Any]] = {
    "lacks y_train": {"x_train": GOOD},
    r"wanted \[n, 28, 28\]": {"x_train": GOOD[:, :5], "y_train": np.zeros(4, int)},
    "y_train is float64": {"x_train": GOOD, "y_train": np.zeros(4)},
    "in 0 to 9": {"x_train": GOOD, "y_train": np.full(4, 10)},
    "cannot be used.*allow_pickle": {"x_train": GOOD, "y_train": np.array([{}] * 4)},
}


@pytest.mark.parametrize("match", BAD_ARRAYS)
def test_bad_arrays(tmp_path: Path, match: str) -> None:
    np.savez(tmp_path / "bad.npz", **BAD_ARRAYS[match])
    with pytest.raises(ValueError, match=match):
        data.from_file(str(tmp_path / "bad.npz"))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a file"):
        data.from_file(str(tmp_path / "absent.npz"))
    np.savez(tmp_path / "whole.npz", x_train=GOOD, y_train=np.zeros(4, int))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    np.save(tmp_path / "one.npy", GOOD)
    for name in ("cut.npz", "one.npy"):
        with pytest.raises(ValueError, match="cannot be used"):
            data.from_file(str(tmp_path / name))


# Tables


def test_tables() -> None:
    found = results(gradloop=[1000.0, 1100.0, 1050.0], fit=[2600.0, 2900.0, 2700.0])
    found[1].note = "said so"
    shown = tables.results_table(Case("lenet5", 32, 500), found)
    assert shown.startswith("LeNet-5, batch 32 (3 rounds, blocks of 500 steps)\n")
    assert shown.splitlines()[-1].split() == (
        ["fit", "2700", "2600..2900", "2.60x", "0.50", "900", "1.000", "said", "so"]
    )
    case = Case("lenet5", 32, 500)
    wanted = tables.verdict_table([(case, v) for v in figures.verdicts("lenet5", 32, found)])
    assert wanted.splitlines()[-1].split() == (
        ["LeNet-5,", "batch", "32", "fit", "/", "gradloop", "2.60", ">=", "2.5", "3", "met"]
    )
    assert "No wanted figure" in tables.verdict_table([])


def test_table_warns_of_what_makes_a_figure_doubtful() -> None:
    guessing = Result("x", [1.0] * 3, steps=100, loss=2.4, turn_s=10.0, idle_cpu_s=1.0)
    assert tables.warnings(guessing) == ["waiting workers used 10% of a core", "DID NOT LEARN"]
    assert tables.warnings(Result("x", [1.0], steps=100, loss=2.4)) == []
    assert tables.warnings(Result("x", [1.0], steps=1, loss=float("nan"))) == ["DID NOT LEARN"]


# Command line


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--only", "fitt"], "did you mean 'fit'"),
        (["--only", "zzz"], "`only` got 'zzz': Known: gradloop"),
        (["--python", "torch"], "wanted GROUP=PATH"),
        (["--python", "numpy=/bin/python"], "wanted GROUP=PATH"),
        (["--rounds", "0"], "wanted at least 1"),
        (["--batch-size", "70000"], "`batch_size` is 70000"),
        (["--data", "/nowhere.npz"], "not a file"),
        (["--json", "/nowhere/out.json"], "whose folder does not exist"),
    ],
)
def test_bad_arguments(
    arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(arguments)
    assert stopped.value.code == 2 and match in capsys.readouterr().err


def test_help_names_contenders_and_needs_no_tensorflow() -> None:
    found = startup._child(sys.executable, startup._HELP, str(SCRIPT))
    assert not found["imports_tensorflow"]
    shown = benchmark.parser().format_help()
    assert all(name in shown for name in peers.PEERS)
    assert "--no-deps tf-models-official" in shown


def test_startup_lines() -> None:
    found = startup.Startup(3.0, 0.2, {"a.py": 0.1, "b.py": 2.0}, {"a.py": False, "b.py": True})
    first, second, third = found.lines()
    assert "adds 0.200 s" in first and first.endswith("missed")
    assert second.endswith("met") and third.endswith("missed")


def test_programs_are_scripts_with_a_command_line() -> None:
    names = [path.name for path in startup.programs(SCRIPT.parent)]
    assert "benchmark.py" in names and "datasets.py" not in names


def test_startup_says_why_it_failed() -> None:
    with pytest.raises(RuntimeError, match="start-up timing failed: ValueError: told so"):
        startup._child(sys.executable, "raise ValueError('told so')")


# Workers


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
        CASE, [peers.PEERS["jax"]], pythons, rounds=1, seconds=0.0, say=said.append
    )
    assert found == [] and missing == {"jax": reason}
    assert f"  jax left out: {reason}" in said


def test_worker_that_dies_in_its_turn_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [
        {"versions": {}},
        {"parameters": 7850, "first_step_s": 1.0, "steps": 3, "note": ""},
        {"us_per_step": 4.0, "seconds": 1.0},
    ]
    body = f"for answer in {answers}: print(json.dumps(answer), flush=True); input()"
    pythons = fake_peer(tmp_path, monkeypatch, body + "\nsys.exit('out of luck')")
    found, missing = coordinator.run(
        CASE, [peers.PEERS["jax"]], pythons, rounds=2, seconds=0.0, say=lambda text: None
    )
    assert found == [] and missing == {"jax": "exit status 1: out of luck"}


def test_missing_interpreter_is_left_out() -> None:
    pythons = peers.interpreters(["jax=/nowhere/python"], sys.executable)
    _, missing = coordinator.run(
        CASE, [peers.PEERS["jax"]], pythons, rounds=1, seconds=0.0, say=lambda text: None
    )
    assert missing == {"jax": "cannot start /nowhere/python: No such file or directory"}


def test_silent_worker_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pythons = fake_peer(tmp_path, monkeypatch, "time.sleep(60)")
    silent = coordinator.Worker(peers.PEERS["jax"], CASE, pythons["jax"], tmp_path, patience=0.1)
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
