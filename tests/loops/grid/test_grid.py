"""The grid: on 1, 2, 4 and 8 replicas, the numbers of one device; beside it, what Keras alone gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def results(program, *arguments):
    """What a program found, which makes logical devices and so needs a process of its own, cell by cell."""
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("replicas", [8, 4, 2, 1])
def test_replicas_give_the_numbers_of_one_device(replicas):
    found = results("cells.py", str(replicas))
    assert len(found) >= 24
    failed = {name: why for name, why in found.items() if why}
    assert not failed, "\n\n".join(f"{name}: {why}" for name, why in failed.items())


def test_keras_alone_gives_other_numbers():
    """Each mistake that the grid shows absent, present in a loop as Keras' guide writes it."""
    found = results("keras_alone.py")
    failed = {name: why for name, why in found.items() if why not in ("wrong", "mended")}
    assert not failed, "\n\n".join(f"{name}: {why}" for name, why in failed.items())
    mended = [name for name, why in found.items() if why == "mended"]
    if mended:
        pytest.skip(f"this Keras is right about: {', '.join(mended)}")
