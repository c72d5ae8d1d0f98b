"""State variables of Keras' optimizers and the variables that they belong to."""

import keras
import pytest

from gradloop.optim.updates.slots import slots_of

pytestmark = pytest.mark.versions

K = keras.optimizers


def named(optimizer, variables):
    optimizer.build(variables)
    slots = slots_of(optimizer.variables, variables)
    return [tuple(slots[id(v)]) if id(v) in slots else v.name for v in optimizer.variables]


def test_slots_and_what_is_none():
    variables = [keras.Variable([1.0], name="w"), keras.Variable([1.0], name="b")]
    assert named(K.Adam(), variables) == [
        *("iteration", "learning_rate"),
        *((0, "momentum"), (0, "velocity"), (1, "momentum"), (1, "velocity")),
    ]
    assert (1, "average") in named(K.SGD(use_ema=True), variables)


def test_a_name_that_begins_as_another_one():
    variables = [keras.Variable([1.0], name=name) for name in ("w", "w_momentum")]
    assert named(K.SGD(momentum=0.9), variables)[2:] == [(0, "momentum"), (1, "momentum")]


def test_variables_of_one_path_in_their_order():
    variables = [keras.Variable([1.0], name="same") for _ in range(2)]
    assert named(K.SGD(momentum=0.9), variables)[2:] == [(0, "momentum"), (1, "momentum")]


def test_of_some_of_the_variables():
    variables = [keras.Variable([1.0], name=name) for name in ("v", "w")]
    optimizer = K.SGD(momentum=0.9)
    optimizer.build(variables)
    assert list(slots_of(optimizer.variables, variables[1:]).values()) == [(0, "momentum")]
