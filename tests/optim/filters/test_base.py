"""Every filter by itself and in combination, against sets written out by hand."""

import re

import keras
import numpy as np
import pytest

from gradloop import optim
from gradloop.optim import from_layer, kind, last_layers, layer_type, layers, name, select
from gradloop.optim.filters.base import as_filter

L = keras.layers


CONV1 = ["conv1/kernel", "conv1/bias"]
NORM = ["norm/gamma", "norm/beta"]
CONV2 = ["conv2/kernel", "conv2/bias"]
FORWARD = [f"recurrent/forward_layer/cell/{k}" for k in ("kernel", "recurrent_kernel", "bias")]
BACKWARD = [f"recurrent/backward_layer/cell/{k}" for k in ("kernel", "recurrent_kernel", "bias")]
FC1 = ["head/fc1/kernel", "head/fc1/bias"]
FC2 = ["head/fc2/kernel", "head/fc2/bias"]
RECURRENT = FORWARD + BACKWARD
EVERY = CONV1 + NORM + CONV2 + RECURRENT + FC1 + FC2
BIASES = [one for one in EVERY if one.endswith("/bias")]


def selected(model, *filters):
    names = {id(v): key for key, v in optim.named_variables(model).items()}
    return [names[id(v)] for v in select(model, *filters)]


def is_square(info):
    return bool(info.variable.shape[0] == info.variable.shape[-1])


CASES = [
    ("conv", CONV1 + CONV2),
    ("conv1", CONV1),
    ("1/k", ["conv1/kernel", "head/fc1/kernel"]),
    ("conv?", CONV1 + CONV2),
    ("fc*", FC1 + FC2),
    ("head/*", FC1 + FC2),
    (re.compile(r"conv\d/k"), ["conv1/kernel", "conv2/kernel"]),
    (re.compile("CONV1", re.IGNORECASE), CONV1),
    (L.Conv2D, CONV1 + CONV2),
    (L.DepthwiseConv2D, CONV2),
    (layer_type(L.Conv2D) & ~layer_type(L.DepthwiseConv2D), CONV1),
    (L.LSTM, RECURRENT),
    (L.Bidirectional, RECURRENT),
    (keras.Sequential, FC1 + FC2),
    (L.Dense, FC1 + FC2),
    (L.Dense | L.LSTM, RECURRENT + FC1 + FC2),
    (L.Layer, EVERY),
    (lambda info: info.kind == "gamma", ["norm/gamma"]),
    (lambda info: isinstance(info.layer, L.BatchNormalization), NORM),
    (lambda info: np.bool_(info.name == "conv1/bias"), ["conv1/bias"]),
    (kind("bias"), BIASES),
    (kind("gamma", "beta"), NORM),
    (layers("conv1"), CONV1),
    (layers("fc1", "conv2"), CONV2 + FC1),
    (layers("head"), FC1 + FC2),
    (layers("head/fc2"), FC2),
    (layers("forward_layer"), FORWARD),
    (from_layer("recurrent"), RECURRENT + FC1 + FC2),
    (from_layer("pool"), CONV2 + RECURRENT + FC1 + FC2),
    (from_layer("fc2"), FC2),
    (from_layer("conv1"), EVERY),
    (last_layers(1), FC2),
    (last_layers(3), RECURRENT + FC1 + FC2),
    (last_layers(6), EVERY),
    (name("conv") | "fc1", CONV1 + CONV2 + FC1),
    ("fc1" | name("conv"), CONV1 + CONV2 + FC1),
    (name("conv") & "bias", ["conv1/bias", "conv2/bias"]),
    ("conv" & kind("bias"), ["conv1/bias", "conv2/bias"]),
    (L.Conv2D & kind("kernel"), ["conv1/kernel", "conv2/kernel"]),
    (L.Dense | kind("gamma"), ["norm/gamma", *FC1, *FC2]),
    (kind("gamma") | L.Dense, ["norm/gamma", *FC1, *FC2]),
    (re.compile("fc1") | kind("gamma"), ["norm/gamma", *FC1]),
    (~kind("bias"), [one for one in EVERY if one not in BIASES]),
    (~(~name("conv")), CONV1 + CONV2),
    (~(name("conv") | "fc" | L.LSTM), NORM),
]


@pytest.mark.parametrize(("spec", "expected"), CASES, ids=range(len(CASES)))
def test_filter(net, spec, expected):
    assert selected(net, spec) == expected


def test_layer_objects_stand_for_themselves(net):
    assert selected(net, net.conv1) == CONV1
    assert selected(net, layers(net.head.layers[0], net.conv2)) == CONV2 + FC1
    assert selected(net, from_layer(net.head)) == FC1 + FC2
    assert selected(net, kind("bias") & net.conv1) == ["conv1/bias"]


def test_filters_add_up_in_the_models_order(net):
    assert selected(net, "fc2", "conv1", "conv1") == CONV1 + FC2
    assert selected(net, lambda info: is_square(info), "conv1")[:2] == CONV1


def test_de_morgan(net):
    left, right = name("conv"), kind("bias")
    assert selected(net, ~(left | right)) == selected(net, ~left & ~right)
    assert selected(net, ~(left & right)) == selected(net, ~left | ~right)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (name("conv"), "name('conv')"),
        (name(re.compile("a")), "name(re.compile('a'))"),
        (layer_type(L.Conv2D, L.Dense), "layer_type(Conv2D, Dense)"),
        (kind("bias", "beta"), "kind('bias', 'beta')"),
        (layers("a", L.Dense(1, name="b")), "layers('a', <Dense b>)"),
        (from_layer("a"), "from_layer('a')"),
        (last_layers(2), "last_layers(2)"),
        (~name("a") & "b" | L.Dense, "((~name('a') & name('b')) | layer_type(Dense))"),
        (as_filter(is_square), "is_square"),
    ],
)
def test_repr(spec, shown):
    assert repr(spec) == shown


def test_filters_are_values():
    assert name("a") | "b" == name("a") | name("b")
    assert name("a") != name("b")
    assert len({kind("bias"), kind("bias"), layer_type(L.Dense)}) == 2
    with pytest.raises(AttributeError, match="pattern"):
        name("a").pattern = "b"


def test_python_words_instead_of_operators():
    with pytest.raises(TypeError, match=r"combine filters with `\|`, `&` and `~`, not with"):
        assert name("a") and name("b")


@pytest.mark.parametrize("bad", [3, None, b"conv", int, {"conv": 1}, keras.optimizers.SGD])
def test_not_a_filter(net, bad):
    with pytest.raises(TypeError, match="`filters` must be strings, compiled regexes"):
        select(net, bad)


def test_variable_is_not_a_filter(net):
    with pytest.raises(TypeError, match="`filters` must be strings.*of type Variable"):
        select(net, net.conv1.kernel)


def test_list_of_filters(net):
    with pytest.raises(TypeError, match=r"one by one: `select\(model, \*filters\)`"):
        select(net, ["conv", "fc"])


def test_base_class_makes_no_filters():
    with pytest.raises(TypeError, match="abstract class Filter"):
        optim.Filter()
