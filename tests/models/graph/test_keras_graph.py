"""The calls of a graph, whichever class Keras keeps it in."""

import keras
import numpy as np
import pytest

from gradloop import models
from gradloop.models.graph.keras_graph import (
    calls,
    functional,
    has_mask,
    standardized_inputs,
    stock_family,
    traced_operations,
)

L = keras.layers


def test_calls_come_after_what_they_read():
    for model in (models.lenet5_functional(), models.lenet5_sequential()):
        made: set[int] = set()
        graph = calls(model)
        for call in graph:
            assert all(id(tensor) in made for tensor in call.inputs)
            made.update(map(id, call.outputs))
        assert [call.operation for call in graph if call.inputs] == [
            layer for layer in model.layers if not isinstance(layer, L.InputLayer)
        ]
        assert id(model.outputs[0]) in made


def test_operations_and_shared_layers_are_calls():
    x = keras.Input((3,))
    shared = L.Dense(3, name="shared")
    graph = calls(keras.Model(x, keras.ops.flip(shared(shared(x)), axis=-1)))
    assert [call.operation.name for call in graph[1:3]] == ["shared", "shared"]
    assert not isinstance(graph[3].operation, L.Layer)
    np.testing.assert_array_equal(graph[3].operation(np.array([[1.0, 2.0, 3.0]])), [[3.0, 2.0, 1.0]])


def test_a_sequential_model_has_a_graph_once_its_input_is_known():
    model = keras.Sequential([L.Dense(2)])
    with pytest.raises(ValueError, match="does not know the shape of its input yet"):
        functional(model)
    model.build((None, 3))
    assert functional(model).output.shape == (None, 2)


def test_masks_are_seen():
    words = keras.Input((5,), dtype="int32")
    assert has_mask(L.Embedding(7, 3, mask_zero=True)(words)) and not has_mask(L.Embedding(7, 3)(words))


class Mine(keras.layers.Layer):
    pass


class MyDropout(keras.layers.Dropout):
    pass


@pytest.mark.parametrize(
    "layer, family",
    [
        (lambda: L.RandomFlip(), "preprocessing"),
        (lambda: L.Normalization(), "preprocessing"),
        (lambda: L.LSTMCell(1), "rnn"),
        (lambda: L.Attention(), "attention"),
        (lambda: MyDropout(0.5), "regularization"),
        (lambda: Mine(), ""),
        (lambda: L.Lambda(abs), ""),
        (lambda: keras.Sequential(), ""),
    ],
)
def test_families_of_stock_layers(layer, family):
    assert stock_family(layer()) == family


def test_inputs_as_a_call_makes_them():
    a = keras.Input((2, 1), name="a", dtype="float16")
    model = keras.Model([a], L.Flatten()(a))
    (found,) = standardized_inputs(model, {"a": np.ones((3, 2))})
    assert found.dtype == "float16" and found.shape == (3, 2, 1)


def test_operations_of_a_call():
    model = keras.Sequential([keras.Input((3,)), L.Dropout(0.5)])
    (call,) = (call for call in calls(model) if call.inputs)
    assert [any("Random" in name for name in traced_operations(call, mode)) for mode in (True, False)] == [
        True,
        False,
    ]
