"""Errors and finer points of layers(), from_layer() and last_layers()."""

import keras
import pytest

from gradloop import optim
from gradloop.optim import from_layer, last_layers, layers, select

L = keras.layers


def vgg_like():
    x = keras.Input((8, 8, 3))
    h = L.Conv2D(2, 3, name="block1_conv1")(x)
    h = L.Conv2D(2, 3, name="block2_conv1")(h)
    base = keras.Model(x, L.Flatten(name="flatten")(h), name="vgg")
    outer = keras.Input((8, 8, 3))
    out = L.Dense(2, name="top")(L.Dropout(0.1, name="drop")(base(outer)))
    return keras.Model(outer, out, name="classifier")


def paths(variables):
    return [variable.path for variable in variables]


def test_nested_models_are_opened_in_place():
    model = vgg_like()
    assert len(select(model, from_layer("block2_conv1"))) == 4
    assert len(select(model, from_layer("vgg/block2_conv1"))) == 4
    assert paths(select(model, last_layers(2))) == paths(select(model, from_layer("block2_conv1")))
    assert len(select(model, last_layers(3))) == 6
    assert paths(select(model, from_layer("drop"))) == ["top/kernel", "top/bias"]


def test_frozen_layers_do_not_count_as_last():
    model = vgg_like()
    model.get_layer("top").trainable = False
    assert paths(select(model, last_layers(1)))[0].endswith("block2_conv1/kernel")


def test_order_of_assignment_counts_not_underscores():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self._stem = L.Dense(2)
            self.middle = L.Dense(2)
            self._last = L.Dense(2)

        def call(self, x):
            return self._last(self.middle(self._stem(x)))

    model = Model()
    model(keras.ops.ones((1, 2)))
    assert select(model, from_layer("middle")) == [*model.middle.weights, *model._last.weights]
    assert select(model, last_layers(1)) == model._last.weights


def test_variables_of_the_model_itself_belong_to_no_layer():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = self.add_weight(shape=(), name="scale")
            self.dense = L.Dense(1)

        def call(self, x):
            return self.dense(x) * self.scale

    model = Model()
    model(keras.ops.ones((1, 2)))
    assert select(model, from_layer("dense")) == model.dense.weights
    assert select(model, L.Layer) == model.weights
    assert select(model, Model) == [model.scale]
    assert select(model, last_layers(2)) == model.weights


def test_a_shared_layer_belongs_to_every_holder():
    class Updater(L.Layer):
        def __init__(self, shared):
            super().__init__()
            self.shared = shared
            self.own = L.Dense(2)

        def call(self, x):
            return self.own(self.shared(x))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            shared = L.Dense(2)
            self.left, self.right = Updater(shared), Updater(shared)

        def call(self, x):
            return self.left(x) + self.right(x)

    model = Model()
    with pytest.warns(UserWarning, match="unbuilt state"):
        model.build((None, 2))
        model(keras.ops.ones((1, 2)))
    assert list(optim.named_variables(model)) == [
        *("left/shared/kernel", "left/shared/bias", "left/own/kernel", "left/own/bias"),
        *("right/own/kernel", "right/own/bias"),
    ]
    right = {id(variable) for variable in model.right.weights}
    assert {id(variable) for variable in select(model, layers("right"))} == right
    assert len(right) == 4


@pytest.mark.parametrize("make", [layers, from_layer])
def test_unknown_layer(make):
    match = r"has no layer 'block2_cnov1'\. Did you mean 'block2_conv1.*Its layers: input_layer"
    with pytest.raises(optim.SelectionError, match=match):
        select(vgg_like(), make("block2_cnov1"))
    with pytest.raises(optim.SelectionError, match="Only the case differs from: top"):
        select(vgg_like(), make("Top"))
    with pytest.raises(optim.SelectionError, match="has no layer ''"):
        select(vgg_like(), make(""))


@pytest.mark.parametrize("make", [layers, from_layer])
def test_layer_of_another_model(make):
    other = L.Dense(1, name="elsewhere")
    with pytest.raises(optim.SelectionError, match="<Dense elsewhere> is not in model 'classifier'"):
        select(vgg_like(), make(other))


@pytest.mark.parametrize("make", [layers, from_layer])
def test_the_model_itself(make):
    model = vgg_like()
    with pytest.raises(optim.SelectionError, match="'classifier' is the whole model"):
        select(model, make(model))


@pytest.mark.parametrize("bad", [3, None, L.Dense, ["top"]])
@pytest.mark.parametrize("make", [layers, from_layer])
def test_reference_of_another_type(make, bad):
    with pytest.raises(TypeError, match="`name_or_layer` must be a layer or its name"):
        make(bad)


def test_no_layers():
    with pytest.raises(TypeError, match="needs at least one layer"):
        layers()


def test_overlaps():
    model = vgg_like()
    with pytest.raises(optim.SelectionError, match="layer 'top' is given twice"):
        select(model, layers("top", "block1_conv1", model.get_layer("top")))
    with pytest.raises(optim.SelectionError, match="'vgg/block1_conv1' lies inside layer 'vgg'"):
        select(model, layers("block1_conv1", "top", "vgg"))


def test_layer_without_variables():
    with pytest.raises(optim.SelectionError, match=r"layer 'drop' \(Dropout\) has no variables"):
        select(vgg_like(), layers("top", "drop"))
    x = keras.Input((2,))
    model = keras.Model(x, L.Softmax(name="softmax")(L.Dense(2)(x)))
    with pytest.raises(optim.SelectionError, match="No layer from there on has variables"):
        select(model, from_layer("softmax"))


def test_ambiguous_end_of_a_path():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [keras.Sequential([L.Dense(1, name="fc")]) for _ in range(2)]

        def call(self, x):
            return [part(x) for part in self.parts]

    model = Model()
    model(keras.ops.ones((1, 2)))
    match = "'fc' stands for 2 layers .*: parts/0/fc, parts/1/fc; write more of the path"
    with pytest.raises(optim.SelectionError, match=match):
        select(model, layers("fc"))
    assert select(model, layers("1/fc")) == model.parts[1].weights
    assert select(model, optim.name("*/fc/*")) == model.weights


def test_name_argument_of_a_subclassed_models_layer():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.entry = L.Dense(1, name="stem")

        def call(self, x):
            return self.entry(x)

    model = Model()
    model(keras.ops.ones((1, 2)))
    with pytest.raises(optim.SelectionError, match="The layer with `name='stem'` is entry here"):
        select(model, layers("stem"))


@pytest.mark.parametrize("bad", [1.0, "1", None, True])
def test_last_layers_of_another_type(bad):
    with pytest.raises(TypeError, match="`n` must be a whole number"):
        last_layers(bad)


@pytest.mark.parametrize("bad", [0, -1])
def test_last_layers_below_one(bad):
    with pytest.raises(optim.SelectionError, match=f"`n` must be at least 1, got {bad}"):
        last_layers(bad)


def test_more_last_layers_than_there_are():
    with pytest.raises(optim.SelectionError, match="has 3 layers with trainable variables"):
        select(vgg_like(), last_layers(4))
