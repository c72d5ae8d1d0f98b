"""check_devices.py: right on the CPU as one device and as two; what is wrong, late or not here is told."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.programs import SERVER

import check_devices


@pytest.fixture
def check(
    status: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, dict[str, list[str]]]]:
    """Runs it: the exit status, what it prints, and the table: check -> error, bound, seconds, result."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: SERVER)

    def check(*arguments: str) -> tuple[int, str, dict[str, list[str]]]:
        code, text = status(check_devices, *arguments), capsys.readouterr().out
        lines = [line.rsplit(maxsplit=4) for line in text.splitlines()]
        rows = [cells for cells in lines if len(cells) == 5 and cells[3].replace(".", "").isdigit()]
        return code, text, {name: cells for name, *cells in rows}

    return check


# The networks that take longest in all their dtypes are left to `long`.
FAST = ("tokens", "batchnorm", "checkpoint", "overflow", "nan", "fused")


@pytest.mark.release
def test_devices_are_right_and_one_that_is_not_here_fails_alone(check: Any) -> None:
    chosen = [word for name in FAST for word in ("--only", name)]
    code, text, table = check("--device", "mirrored:63", "--device", "mirrored:cpu:2", *chosen)
    assert code == 1 and f"{len(table) - 1} of {len(table)} checks are right" in text
    assert table.pop("mirrored:63 process status 1")[-1] == "FAILED" and "`spec` asks for 63 GPUs" in text
    all_are_right_and_none_is_allowed_much(table, 18)
    tokens = {name for name in table if " tokens " in name}
    assert tokens == {"cpu tokens float32", "cpu tokens xla", "mirrored:cpu:2 tokens float32"}
    assert 0 < float(table["mirrored:cpu:2 tokens float32"][0]) < 1e-5


@pytest.mark.long
def test_all_checks_are_right(check: Any) -> None:
    code, text, table = check("--device", "mirrored:cpu:2")
    assert code == 0, text
    all_are_right_and_none_is_allowed_much(table, 40)


def all_are_right_and_none_is_allowed_much(table: dict[str, list[str]], rows: int) -> None:
    assert len(table) > rows and {cells[-1] for cells in table.values()} == {"right"}, table
    bounds = {name: float(cells[1]) for name, cells in table.items()}
    assert max(bounds.values()) < 0.4, bounds


def test_what_does_not_end_in_time_is_ended() -> None:
    rows = list(check_devices.results("cpu", ["nan"], seconds=0.01))
    assert [row["what"] for row in rows] == ["process"]
    assert rows[0]["how"] == "status -9" and "--seconds 0.01" in rows[0]["problem"]


START, RIGHT = np.zeros(4), np.array([3.0, 0.0, 4.0, 0.0])  # a way of 5


def ended(kind: str, how: str, error: float) -> check_devices.Row:
    """A training whose weights are off by `error`."""
    weights = np.stack([START, RIGHT + np.array([error, 0, 0, 0])])
    return {"kind": kind, "what": "conv", "how": how, "weights": weights}


def judged(*rows: check_devices.Row) -> list[check_devices.Row]:
    check_devices.judge(list(rows))
    return list(rows)


CPU = ("float64", 0.0), ("float32", 5e-7), ("mixed_float16", 5e-3), ("mixed_bfloat16", 0.5)


@pytest.mark.parametrize(
    "kind, how, allowed",
    [
        ("gpu", "float32", 8e-7),  # eight times the CPU's own 1e-7
        ("gpu", "xla", 8e-7),
        ("mirrored:2", "float32", 8e-7),
        ("gpu", "tf32", 8e-3),  # as float16
        ("gpu", "mixed_float16", 8e-3),
        ("gpu", "mixed_bfloat16", 0.5),  # and not 0.8
    ],
)
def test_weights_are_judged_by_the_cpus_own_error(kind: str, how: str, allowed: float) -> None:
    cpu = [ended("cpu", *one) for one in CPU]
    for share, problem in ((0.99, None), (1.01, "the numbers are wrong"), (np.nan, "the numbers are wrong")):
        *_, row = judged(*(dict(one) for one in cpu), ended(kind, how, share * allowed * 5))
        assert row["error"] == pytest.approx(share * allowed, rel=1e-6, nan_ok=True)
        assert row["bound"] == pytest.approx(allowed, rel=1e-6)
        assert row.get("problem") == problem


def test_the_cpus_half_precision_is_judged_by_how_coarse_it_is() -> None:
    rows = judged(*(ended("cpu", *one) for one in CPU))
    assert [row.get("bound") for row in rows] == [
        None,
        *map(pytest.approx, (8e-7, 8e-7 * 2**13, 8e-7 * 2**16)),
    ]
    assert [row.get("problem") for row in rows] == [None, None, None, "the numbers are wrong"]


def test_an_exact_cpu_does_not_ask_for_exact_numbers() -> None:
    *_, row = judged(ended("cpu", "float64", 0.0), ended("cpu", "float32", 0.0), ended("gpu", "float32", 0.0))
    assert row["bound"] == 8 * 2.0**-24


@pytest.mark.parametrize("there", [[], [("float64", 0.0)], [("float32", 0.0)]])
def test_without_the_cpus_numbers_nothing_is_right(there: list[tuple[str, float]]) -> None:
    *_, row = judged(*(ended("cpu", *one) for one in there), ended("gpu", "float32", 0.0))
    assert row["problem"] == "the CPU has no numbers to compare with"


@pytest.mark.parametrize("error, fails", [(0.0, False), (1.0, True), (float("nan"), True)])
def test_what_a_device_judges_by_itself(error: float, fails: bool) -> None:
    row: dict[str, Any] = {"kind": "gpu", "what": "nan", "how": "found", "error": error, "bound": 0.0}
    assert ("problem" in judged(row)[0]) is fails


@pytest.mark.parametrize("kind", ["tpu", "mirrored", "mirrored:0", "mirrored:gpu:2", "cpu:2"])
def test_unknown_devices_are_refused(kind: str, refusal: Any) -> None:
    assert f"--device {kind}" in refusal(check_devices, "--device", kind)


def test_unknown_checks_are_refused(refusal: Any) -> None:
    assert "did you mean batchnorm" in refusal(check_devices, "--only", "batch_norm")
