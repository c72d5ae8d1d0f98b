"""launch.py --restarts with real runs: one of two workers is killed at a random step, and nothing differs."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

import soak
from shared import soak_runs

LAUNCH = Path(__file__).parents[2] / "scripts" / "launch.py"
PROGRAM = Path(__file__).parent / "programs" / "killed_worker.py"
STEPS = 8 * soak_runs.EPOCHS


def launched(folder, run, *options, kills=()):
    """What two workers came to, of which one is killed after these steps; and what launch.py said."""
    folder.mkdir()
    command = [sys.executable, str(LAUNCH), "--workers", "2", "--timeout", "600", *options]
    command += [str(PROGRAM), str(folder), run, *map(str, kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=660)
    said = (folder / soak_runs.OUTPUT).read_text()[-3000:]
    assert done.returncode == 0, f"kills after {kills}\n{done.stderr}\n{said}"
    return soak.result(folder), done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    "run, options, restarts, tolerance",
    [
        ("dropout_and_batch_norm", [], 2, 0.0),
        # With the worker that is left, the sums are in another order.
        ("float64", ["--min-workers", "1"], 1, 1e-6),
    ],
)
def test_a_worker_that_is_killed(run, options, restarts, tolerance, tmp_path):
    kills = sorted(random.SystemRandom().sample(range(1, STEPS), restarts))
    wanted, said = launched(tmp_path / "reference", run)
    assert not said
    found, said = launched(tmp_path / "killed", run, "--restarts", str(restarts + 1), *options, kills=kills)
    assert said.count("worker 1 was killed by SIGKILL; ending the others") == restarts
    assert f"starting again with {1 if options else 2} workers: restart {restarts} of {restarts + 1}" in said
    assert not soak.differing(wanted, found, tolerance), f"kills after {kills}"
