"""Keras' private parts that `loops` reads are still where it reads them."""

import keras
import pytest
from gradloop.loops.keras_private import knows_variable


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lion", "ftrl", "nadam"])
def test_knows_variable(name):
    known, unknown = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = keras.optimizers.get(name)
    optimizer.build([known])
    assert knows_variable(optimizer, known)
    assert not knows_variable(optimizer, unknown)
