"""Stateful RNNs and replicas."""

import keras
import pytest

from gradloop.loops.step.stateful import check_layers


def test_states_of_examples_are_refused_on_replicas():
    layers = [keras.layers.GRU(1, name="plain"), keras.layers.GRU(1, stateful=True, name="memory")]
    check_layers(layers, 1)
    check_layers(layers[:1], 2)
    with pytest.raises(
        ValueError, match="`model` has the layer 'memory' with `stateful=True`, .* make the layer"
    ):
        check_layers(layers, 2)
