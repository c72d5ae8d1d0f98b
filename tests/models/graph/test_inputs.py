"""Inputs in any structure that Keras takes, in the one that the model has."""

import keras
import pytest

from gradloop.models.graph.inputs import matched_inputs


def net(structure):
    """A model of inputs called as the leaves of `structure` are."""
    inputs = keras.tree.map_structure(lambda name: keras.Input((1,), name=name), structure)
    return keras.Model(inputs, keras.layers.Add()(keras.tree.flatten(inputs)), name="net")


@pytest.mark.parametrize(
    "structure, x, expected",
    [
        (["z", "a"], {"a": 1, "z": 2}, [2, 1]),
        (["z", "a"], (2, 1), [2, 1]),
        ({"a": "a", "z": "z"}, [1, 2], {"a": 1, "z": 2}),
        ({"z": "z", "a": "a"}, {"a": 1, "z": 2, "b": 3}, {"z": 2, "a": 1}),
        ([{"z": "z", "a": "a"}, "b"], ({"a": 1, "z": 2}, 3), [{"z": 2, "a": 1}, 3]),
        ([["z"], ("a", "b")], {"a": 1, "b": 3, "z": 2}, [[2], (1, 3)]),
    ],
)
def test_in_the_models_structure(structure, x, expected):
    found = matched_inputs(net(structure), x)
    assert found == expected and keras.tree.flatten(found) == keras.tree.flatten(expected)


@pytest.mark.parametrize("x", [5, [5], {"a": 5}])
def test_one_input(x):
    a = keras.Input((1,), name="a")
    assert matched_inputs(keras.Model(a, a + 1), x) == 5


@pytest.mark.parametrize(
    "structure, x", [(["z", "a"], {"a": 1}), (["z", "a"], [1, 2, 3]), ({"z": "z", "a": "a"}, [1, 2])]
)
def test_others_are_refused(structure, x):
    with pytest.raises(ValueError, match="`x` holds .*, and model 'net' has the inputs .*: pass a dict by"):
        matched_inputs(net(structure), x)
