"""Two replicas give what one device gives."""

from pathlib import Path

import pytest

from tests.programs import Program

PROGRAM = Path(__file__).parent / "programs" / "grouped_replicas.py"


# A kernel; Keras' own step, with a number that all variables have in common; others of the two kinds.
@pytest.mark.numbers
@pytest.mark.parametrize(
    "optimizers",
    [
        ("adam", "rest"),
        pytest.param(("nadam",), marks=pytest.mark.release),
        pytest.param(("momentum", "lion"), marks=pytest.mark.long),
    ],
)
def test_two_replicas_are_one_device(optimizers, tmp_path):
    assert Program(PROGRAM, *optimizers, folder=tmp_path).finish().endswith("done\n")
