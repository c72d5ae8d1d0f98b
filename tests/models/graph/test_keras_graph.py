"""The calls of a graph, whichever class Keras keeps it in."""

import keras
import numpy as np

from gradloop import models
from gradloop.models.graph.keras_graph import calls

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
