"""Two replicas give what one device gives."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "grouped_replicas.py"


@pytest.mark.numbers
def test_two_replicas_are_one_device():
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("done\n")
