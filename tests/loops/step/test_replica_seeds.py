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


def nested():
    """A model with three layers that draw, one of them inside another model and one used twice."""
    inputs = keras.Input((4,))
    shared = keras.layers.Dropout(0.5, name="shared")
    inner = keras.Sequential([keras.Input((4,)), keras.layers.GaussianNoise(1.0, name="noise")], name="inner")
    outputs = shared(inner(shared(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GaussianDropout(0.5)(outputs)))
    drawing = [shared, inner.get_layer("noise"), model.layers[-2]]
    return model, [layer.seed_generator for layer in drawing]


def replaced(generators):
    return ["next" in vars(generator) for generator in generators]


def test_every_generator_draws_otherwise_while_the_body_is_traced():
    model, generators = nested()
    assert replaced(generators) == [False] * 3
    with replica_seeds(model, Three()):
        assert replaced(generators) == [True] * 3
    assert replaced(generators) == [False] * 3
    with pytest.raises(RuntimeError, match="in the body"), replica_seeds(model, Three()):
        raise RuntimeError("in the body")
    assert replaced(generators) == [False] * 3


def test_outside_of_replicas_the_numbers_are_keras_own():
    """As when Keras draws once for all, while a layer is made."""
    model, generators = nested()
    for generator in generators:
        before = generator.state.numpy()
        with replica_seeds(model, Three()):
            ours = [np.array(generator.next()), np.array(generator.next(ordered=False))]
        generator.state.assign(before)
        theirs = [np.array(generator.next()), np.array(generator.next(ordered=False))]
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_that_draws_nothing():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with replica_seeds(model, Three()):
        assert model(np.zeros((1, 4))).shape == (1, 2)


def test_three_replicas(tmp_path):
    Program(PROGRAM, folder=tmp_path).finish()
