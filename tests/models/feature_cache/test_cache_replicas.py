"""Two replicas that train on cached features give what one device gives that trains the whole model."""

from pathlib import Path

import pytest

from tests.programs import Program

PROGRAM = Path(__file__).parent / "programs" / "cache_replicas.py"


@pytest.mark.numbers
def test_two_replicas(tmp_path):
    assert Program(PROGRAM, tmp_path, folder=tmp_path).finish().endswith("done\n")
