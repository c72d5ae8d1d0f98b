"""Two replicas that train on cached features give what one device gives that trains the whole model."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "cache_replicas.py"


@pytest.mark.numbers
def test_two_replicas(tmp_path):
    command = [sys.executable, str(PROGRAM), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("done\n")
