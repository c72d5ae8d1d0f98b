"""The benchmark: its blocks, its data and its command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmark
from bench import child, data, ours, peers, startup, worker
from bench.case import Case, Contender, steps_in_block

SCRIPT = Path(benchmark.__file__)


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


@pytest.mark.parametrize(
    ("name", "callback"),
    [
        ("gradloop", ours.EpochLosses),
        ("gradloop-plain", type(None)),
    ],
)
def test_what_is_on_in_each_of_ours(name: str, callback: type) -> None:
    images, labels = data.load("softmax", 50, None)
    made = ours.build(name, Case("softmax", 10, 2, 50), images, labels)
    with made.logs:
        assert type(made.callback) is callback
        assert len(made.step.metrics) == (name != "gradloop-plain")


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
    r"x_train has shape .* wanted \(n, 28, 28\)": {"x_train": GOOD[:, :5], "y_train": np.zeros(4, int)},
    "y_train has dtype float64": {"x_train": GOOD, "y_train": np.zeros(4)},
    "label 10; wanted 0 to 9": {"x_train": GOOD, "y_train": np.full(4, 10)},
    "holds pickled Python objects": {"x_train": GOOD, "y_train": np.array([{}] * 4)},
}


@pytest.mark.parametrize("match", BAD_ARRAYS)
def test_bad_arrays(tmp_path: Path, match: str) -> None:
    np.savez(tmp_path / "bad.npz", **BAD_ARRAYS[match])
    with pytest.raises(ValueError, match=match):
        data.from_file(str(tmp_path / "bad.npz"))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        data.from_file(str(tmp_path / "absent.npz"))
    np.savez(tmp_path / "whole.npz", x_train=GOOD, y_train=np.zeros(4, int))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    np.save(tmp_path / "one.npy", GOOD)
    for name, match in (("cut.npz", "not a whole .npz file"), ("one.npy", "holds one bare array")):
        with pytest.raises(ValueError, match=match):
            data.from_file(str(tmp_path / name))


# Command line


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--only", "fitt"], "did you mean fit?"),
        (["--only", "zzz"], "zzz is unknown; choose from gradloop"),
        (["--python", "torch"], "wanted GROUP=PATH"),
        (["--python", "numpy=/bin/python"], "wanted GROUP=PATH"),
        (["--rounds", "0"], "--rounds: wanted a whole number at least 1, got 0"),
        (["--batch-size", "70000"], "`batch_size` is 70000"),
        (["--data", "/nowhere.npz"], "No such file"),
        (["--json", "/nowhere/out.json"], "whose folder does not exist"),
    ],
)
def test_bad_arguments(arguments: list[str], match: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(arguments)
    assert stopped.value.code == 2 and match in capsys.readouterr().err


def test_help_names_contenders_and_needs_no_tensorflow() -> None:
    found = child.answer(child.start(sys.executable, "-c", startup.HELP, str(SCRIPT)))
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
    assert "benchmark.py" in names and "gan.py" not in names
