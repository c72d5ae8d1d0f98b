"""The grid: on 1, 2, 4 and 8 replicas, the numbers of one device; beside it, what Keras alone gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import Program

HERE = Path(__file__).parent


def results(program, *arguments, folder):
    """What a program found, which makes logical devices and so needs a process of its own, cell by cell."""
    return json.loads(Program(HERE / program, *arguments, folder=folder).finish(timeout=580).splitlines()[-1])


CASES = [
    pytest.param(2, "per-replica-count", 12, marks=pytest.mark.release),
    pytest.param(2, "others", 15, marks=pytest.mark.release),
    *(pytest.param(replicas, "all", 30, marks=pytest.mark.long) for replicas in (1, 4, 8)),
]


@pytest.mark.numbers
@pytest.mark.parametrize(("replicas", "which", "cells"), CASES)
def test_replicas_give_the_numbers_of_one_device(replicas, which, cells, tmp_path):
    found = results("program.py", replicas, which, folder=tmp_path)
    assert len(found) >= cells
    failed = {name: why for name, why in found.items() if why}
    assert not failed, "\n\n".join(f"{name}: {why}" for name, why in failed.items())


@pytest.mark.long  # `test_workers.py` has two workers in every run
def test_two_workers_give_the_numbers_of_one_device():
    launch = HERE.parents[2] / "scripts" / "launch.py"
    command = [sys.executable, str(launch), "--workers", "2", "--timeout", "570"]
    command += [str(HERE / "program.py"), "workers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    answers = [line.partition(" | ")[2] for line in done.stdout.splitlines() if line.endswith("}")]
    assert len(answers) == 2
    for found in map(json.loads, answers):
        assert len(found) >= 30
        failed = {name: why for name, why in found.items() if why}
        assert not failed, "\n\n".join(f"{name}: {why}" for name, why in failed.items())


@pytest.fixture(scope="module")
def keras_alone(tmp_path_factory):
    return results("keras_alone.py", folder=tmp_path_factory.mktemp("keras"))


TRAPS = [
    "clips before it sums",
    "counts penalties once a replica",
    "looks for overflow on the first replica alone",
    "keeps the moving statistics of the first replica",
    "drops the same units on every replica",
    "cannot accumulate",
]


@pytest.mark.parametrize("trap", TRAPS)
def test_keras_alone_gives_other_numbers(trap, keras_alone):
    """Each mistake that the grid shows absent, present in a loop as Keras' guide writes it."""
    assert set(keras_alone) == set(TRAPS)
    if keras_alone[trap] == "mended":
        pytest.skip("this Keras is right about it")
    assert keras_alone[trap] == "wrong"
