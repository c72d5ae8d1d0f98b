"""Two replicas give what one device gives."""

from pathlib import Path

import pytest

from tests.programs import Program

PROGRAM = Path(__file__).parent / "programs" / "grouped_replicas.py"


@pytest.mark.numbers
@pytest.mark.parametrize(
    "optimizers", [("adam", "rest"), pytest.param(("momentum", "lion", "nadam"), marks=pytest.mark.release)]
)
def test_two_replicas_are_one_device(optimizers, tmp_path):
    assert Program(PROGRAM, *optimizers, folder=tmp_path).finish().endswith("done\n")
