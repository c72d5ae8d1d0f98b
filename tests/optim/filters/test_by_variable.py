"""Filters on names, classes and callables."""

import functools
import re

import keras
import numpy as np
import pytest

from gradloop import optim
from gradloop.optim import kind, layer_type, name, select

L = keras.layers


def convolutions():
    """Every convolution that Keras has, in one and two dimensions, each named as what it is."""
    row, image = keras.Input((9, 2)), keras.Input((9, 9, 2))
    rows, images = [], []
    for rank, inputs, outputs in ((1, row, rows), (2, image, images)):
        for form in ("", "Depthwise", "Separable"):
            layer = getattr(L, f"{form}Conv{rank}D")
            arguments = (3,) if form == "Depthwise" else (2, 3)
            outputs.append(layer(*arguments, name=f"{form.lower() or 'plain'}{rank}", use_bias=False)(inputs))
        layer = getattr(L, f"Conv{rank}DTranspose")
        outputs.append(layer(2, 3, name=f"transposed{rank}", use_bias=False)(inputs))
    return keras.Model([row, image], rows + images)


@pytest.mark.parametrize(
    "classes, expected",
    [
        ([L.Conv1D], {"plain1", "depthwise1", "separable1"}),
        ([L.Conv2D], {"plain2", "depthwise2", "separable2"}),
        ([L.SeparableConv1D], {"separable1"}),
        ([L.DepthwiseConv2D], {"depthwise2"}),
        ([L.Conv1DTranspose, L.Conv2DTranspose], {"transposed1", "transposed2"}),
        ([L.DepthwiseConv1D, L.SeparableConv2D], {"depthwise1", "separable2"}),
    ],
)
def test_convolutions_of_a_rank(classes, expected):
    model = convolutions()
    chosen = {id(v) for v in select(model, layer_type(*classes))}
    found = {name.split("/")[0] for name, v in optim.named_variables(model).items() if id(v) in chosen}
    assert found == expected


class MyDense(keras.layers.Dense):
    pass


class Tower(keras.Model):
    """A model with a variable of its own; `twin` is held by two layers."""

    def __init__(self):
        super().__init__()
        self.twin = MyDense(3)
        self.left = keras.Sequential([keras.Input((3,)), self.twin])
        self.out = L.TimeDistributed(self.twin)
        self.plain = L.Dense(3)
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x):
        return self.plain(self.left(x)) * self.scale + self.out(x[:, None])[:, 0]


@pytest.fixture
def tower():
    model = Tower()
    model(np.zeros((1, 3), "float32"))
    return model


def test_subclasses_and_every_layer_around_a_shared_one(tower):
    assert select(tower, MyDense) == tower.twin.weights
    assert set(map(id, select(tower, L.Dense))) == set(map(id, [*tower.twin.weights, *tower.plain.weights]))
    # Whichever holder gave the variable its name, both find it.
    assert select(tower, keras.Sequential) == select(tower, L.TimeDistributed) == tower.twin.weights


def test_the_class_of_the_model_itself_holds_its_own_variables_alone(tower):
    """All of them would be no choice; those that are no layer's can be found by it."""
    assert select(tower, Tower) == [tower.scale]
    with pytest.raises(optim.SelectionError, match=r"\(Bidirectional\) matches none .* MyDense, Tower"):
        select(tower, L.Bidirectional)


def test_kind_is_the_whole_last_component(tower):
    assert select(tower, kind("scale")) == [tower.scale]
    assert {v.name for v in select(tower, kind("bias", "scale"))} == {"bias", "scale"}
    with pytest.raises(optim.SelectionError, match=r"kind\('ker'\): no variable of model"):
        select(tower, kind("ker"))
    with pytest.raises(optim.SelectionError, match=r"kind\('plain/kernel'\): no variable"):
        select(tower, kind("plain/kernel"))


def test_a_regex_is_searched_in_stable_names_with_its_own_anchors(tower):
    assert select(tower, re.compile("^plain/")) == tower.plain.weights
    assert select(tower, re.compile("^scale$")) == [tower.scale]
    with pytest.raises(optim.SelectionError, match="matches none of the 5 variables"):
        select(tower, re.compile("^kernel"))


def test_callables_that_are_no_functions(tower):
    def of_kind(wanted, info):
        return info.kind == wanted

    class Square:
        def __call__(self, info):
            return info.variable.shape == (3, 3)

    partial = functools.partial(of_kind, "scale")
    assert select(tower, partial) == [tower.scale]
    assert {v.name for v in select(tower, Square())} == {"kernel"}
    with pytest.raises(optim.SelectionError, match=r"functools.partial\(.*of_kind.*'gamma'\) matches none"):
        select(tower, functools.partial(of_kind, "gamma"))


@pytest.mark.parametrize("empty", ["", re.compile("")])
def test_empty_pattern(net, empty):
    with pytest.raises(optim.SelectionError, match="is empty and would match every variable"):
        select(net, empty)


@pytest.mark.parametrize("bad", [3, re.compile(b"conv"), None])
def test_pattern_of_another_type(bad):
    with pytest.raises(TypeError, match="`pattern` must be a str or a compiled regex of str"):
        name(bad)


def test_layer_type_arguments():
    with pytest.raises(TypeError, match="needs at least one layer class"):
        layer_type()
    with pytest.raises(TypeError, match="`classes` must be subclasses of keras.layers.Layer"):
        layer_type(int)
    with pytest.raises(TypeError, match="`classes` must be subclasses of keras.layers.Layer"):
        layer_type(L.Dense(1))


@pytest.mark.parametrize("bad", [(), (3,), ("bias", None)])
def test_kind_arguments(bad):
    with pytest.raises(TypeError, match="`kinds` must be one or more strings"):
        kind(*bad)


def test_unknown_kind(net):
    match = r"kind\('kernal'\): no variable .* Did you mean 'kernel.* Its kinds: kernel, bias"
    with pytest.raises(optim.SelectionError, match=match):
        select(net, kind("kernal"))
    with pytest.raises(optim.SelectionError, match=r"kind\('offset'\)"):
        select(net, ~kind("bias", "offset"))


@pytest.mark.parametrize("returned", [None, 1, "yes", [True]])
def test_callable_that_returns_no_bool(net, returned):
    with pytest.raises(TypeError, match="callable filter must return a bool.*'conv1/kernel'"):
        select(net, lambda info: returned)


def test_callable_sees_every_variable_once(net):
    seen = []

    def look(info):
        seen.append(info)
        return True

    assert select(net, look) == net.trainable_variables
    assert [info.variable for info in seen] == net.weights
    assert {type(info) for info in seen} == {optim.VariableInfo}
