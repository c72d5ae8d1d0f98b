"""Random numbers of each replica: one device's on the first, others on the rest."""

from pathlib import Path

import keras
import numpy as np
import pytest

from gradloop.loops.step.replica_seeds import replica_seeds
from tests.programs import Program

PROGRAM = Path(__file__).parent / "programs" / "replica_seeds.py"


class Three:
    num_replicas_in_sync = 3


def test_generators_draw_otherwise_only_while_the_body_is_traced():
    method = keras.random.SeedGenerator.next
    with pytest.raises(RuntimeError, match="in the body"), replica_seeds(Three()):
        assert keras.random.SeedGenerator.next is not method
        raise RuntimeError("in the body")
    assert keras.random.SeedGenerator.next is method
    with replica_seeds(None):
        assert keras.random.SeedGenerator.next is method


def test_outside_of_replicas_the_numbers_are_keras_own():
    """As when Keras draws once for all, while a layer is made."""
    ours, theirs = keras.random.SeedGenerator(1), keras.random.SeedGenerator(1)
    with replica_seeds(Three()):
        found = [np.array(ours.next()), np.array(ours.next(ordered=False))]
    np.testing.assert_array_equal(found, [np.array(theirs.next()), np.array(theirs.next(ordered=False))])


@pytest.mark.release
def test_three_replicas(tmp_path):
    Program(PROGRAM, folder=tmp_path).finish()
