"""Real networks: names hold for two builds, and selection by class agrees with a public walk."""

from typing import Any

import keras
import pytest

from gradloop import optim
from gradloop.optim import layer_type, select

L = keras.layers
CONVOLUTIONS = (L.Conv2D, L.DepthwiseConv2D, L.SeparableConv2D)

# Name, input size, variables in convolutions, how many of them are depthwise.
MODELS = [
    ("MobileNetV2", 32, 52, 17),
    ("ResNet50", 32, 106, 0),
    ("InceptionV3", 75, 94, 0),
    ("DenseNet121", 32, 120, 0),
    ("EfficientNetB0", 32, 113, 16),
]


def build(name, size):
    make = getattr(keras.applications, name)
    return make(include_top=False, weights=None, input_shape=(size, size, 3))


# Of those with depthwise convolutions and of those without, one in every run.
MARKS: dict[str, Any] = {"MobileNetV2": (), "ResNet50": (), "EfficientNetB0": pytest.mark.release}
CASES = [pytest.param(each, id=each[0], marks=MARKS.get(each[0], pytest.mark.long)) for each in MODELS]


@pytest.fixture(scope="module", params=CASES)
def network(request):
    name, size, convolutional, depthwise = request.param
    return build(name, size), build(name, size), convolutional, depthwise


def test_names_hold_for_a_second_build(network):
    first, second, _, _ = network
    names = optim.named_variables(first)
    assert [id(v) for v in names.values()] == [id(v) for v in first.weights]
    assert list(names) == list(optim.named_variables(second))
    assert not any(part.startswith("variable") for name in names for part in name.split("/"))


def test_selection_by_class(network):
    model, _, convolutional, depthwise = network
    expected = [
        variable
        for layer in model.layers
        if isinstance(layer, CONVOLUTIONS)
        for variable in layer.trainable_variables
    ]
    found = select(model, L.Conv2D)
    assert [id(v) for v in found] == [id(v) for v in expected]
    assert len(found) == convolutional
    by_layer = {id(info.variable): info.layer for info in optim.variable_infos(model)}
    assert not any(isinstance(by_layer[id(v)], L.BatchNormalization) for v in found)
    without = select(model, layer_type(L.Conv2D) & ~layer_type(L.DepthwiseConv2D))
    assert len(without) == convolutional - depthwise
    if depthwise:
        assert len(select(model, L.DepthwiseConv2D)) == depthwise


def test_last_layers_agree_with_model_layers(network):
    model, _, _, _ = network
    owners = [layer for layer in model.layers if layer.trainable_variables]
    expected = {id(v) for layer in owners[-5:] for v in layer.trainable_variables}
    assert {id(v) for v in select(model, optim.last_layers(5))} == expected


def test_a_nested_network_is_prefixed(network):
    model, _, _, _ = network
    x = keras.Input(model.input_shape[1:])
    outer = keras.Model(x, L.Dense(2, name="head")(L.Flatten()(model(x))))
    prefixed = [f"{model.name}/{name}" for name in optim.named_variables(model)]
    assert list(optim.named_variables(outer)) == [*prefixed, "head/kernel", "head/bias"]
    assert len(select(outer, L.Conv2D)) == len(select(model, L.Conv2D))
