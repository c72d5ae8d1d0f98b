"""The walk over attributes: composite layers, clashes, sets, cycles, ties; and what naming costs."""

import cProfile
import pstats

import keras
import pytest

from gradloop import optim

L = keras.layers


def called(model, *shape):
    model(keras.ops.ones((2, *shape)))
    return model


def test_composite_keras_layers_come_out_by_their_attributes(names):
    x = keras.Input((5, 4))
    h = L.MultiHeadAttention(2, 3, name="attention")(x, x)
    h = L.Bidirectional(L.LSTM(2, return_sequences=True), name="both_ways")(h)
    h = L.RNN([L.GRUCell(2), L.LSTMCell(3)], return_sequences=True, name="stack")(h)
    h = L.TimeDistributed(L.Dense(2), name="each")(h)
    found = names(keras.Model(x, h))
    assert found[:2] == ["attention/query_dense/kernel", "attention/query_dense/bias"]
    assert "both_ways/forward_layer/cell/recurrent_kernel" in found
    assert "both_ways/backward_layer/cell/bias" in found
    assert "stack/cell/cells/0/kernel" in found
    assert "stack/cell/cells/1/bias" in found
    assert found[-2:] == ["each/layer/kernel", "each/layer/bias"]


def test_variables_without_a_name_of_their_own_take_the_attributes(names):
    class Loose(L.Layer):
        def __init__(self):
            super().__init__()
            self.first = keras.Variable([1.0])
            self._second = keras.Variable([2.0], name="shift")
            self.scales = [keras.Variable([3.0]), keras.Variable([4.0])]
            self.left = keras.Variable([5.0], name="twin")
            self.right = keras.Variable([6.0], name="twin")

    assert names(Loose()) == ["first", "shift", "scales/0", "scales/1", "left", "right"]


def test_nothing_is_left_unnamed_without_any_attribute(names):
    class Hidden(L.Layer):
        def __init__(self):
            super().__init__()
            self.add_weight(shape=(1,))
            self.add_weight(shape=(2,))
            self.add_weight(shape=(3,), name="kernel")
            self.add_weight(shape=(4,), name="kernel")
            self.layer = L.Dense(1)
            self.layer = L.Dense(2)
            self.layer = L.Dense(3, name="last")

        def build(self, shape):
            for layer in self._flatten_layers(include_self=False):
                layer.build(shape)

    layer = Hidden()
    layer.build((None, 1))
    assert names(layer) == [
        *("variable", "variable_1", "kernel", "kernel_1"),
        *("dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"),
        *("layer/kernel", "layer/bias"),
    ]


def test_attributes_that_differ_by_underscores_alone(names):
    class Clash(keras.Model):
        def __init__(self):
            super().__init__()
            self._conv = L.Dense(1)
            self.conv = L.Dense(2)
            self.__conv = L.Dense(3)

        def call(self, x):
            return self.conv(x), self._conv(x), self.__conv(x)

    found = names(called(Clash(), 4))
    assert set(found) == {
        *("conv/kernel", "conv/bias", "conv_1/kernel", "conv_1/bias"),
        *("Clash__conv/kernel", "Clash__conv/bias"),
    }
    assert optim.named_variables(called(model := Clash(), 4))["conv/bias"] is model.conv.bias


def test_sets_of_layers_are_ordered_by_layer_name():
    class Bag(keras.Model):
        def __init__(self):
            super().__init__()
            self.bag = {L.Dense(n, name=f"part_{n}") for n in range(1, 13)}

        def call(self, x):
            return [layer(x) for layer in self.bag]

    named = optim.named_variables(called(Bag(), 1))
    assert [named[f"bag/{n}/bias"].shape[0] for n in range(12)] == list(range(1, 13))


def test_cycles_end(names):
    class Child(L.Layer):
        def build(self, shape):
            self.weight = self.add_weight(shape=(1,), name="weight")

        def call(self, x):
            return x * self.weight

    model = keras.Sequential([keras.Input((1,)), Child(name="child")])
    vars(model.layers[0])["parent"] = model
    loop = [model.layers[0]]
    loop.append(loop)
    vars(model.layers[0])["loop"] = loop
    assert names(model) == ["child/weight"]


def test_tied_variable_is_named_by_the_first_path(names):
    class Tied(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed = L.Embedding(3, 2)
            self.embed.build(None)
            self.output_table = self.embed.embeddings

        def call(self, x):
            return self.embed(x)

    assert names(called(Tied(), 1)) == ["embed/embeddings"]


def test_more_attributes_on_a_subclass_of_functional(names):
    class Extended(keras.Model):
        def __init__(self):
            x = keras.Input((2,))
            super().__init__(inputs=x, outputs=L.Dense(2, name="trunk")(x))
            self.extra = L.Dense(1)
            self.extra.build((None, 2))
            self.temperature = self.add_weight(shape=(), name="temperature")

    model = Extended()
    expected = {"trunk/kernel", "trunk/bias", "temperature"}
    # Older Keras versions leave layers outside the graph out of `model.weights`.
    if any(variable is model.extra.kernel for variable in model.weights):
        expected |= {"extra/kernel", "extra/bias"}
    assert set(names(model)) == expected


def test_a_bare_layer_has_names_too(names):
    dense = L.Dense(1)
    dense.build((None, 2))
    assert names(dense) == ["kernel", "bias"]


def test_a_model_built_without_variables_has_none(names):
    assert names(keras.Sequential([keras.Input((2, 2)), L.Flatten()])) == []


def test_layers_that_a_built_model_never_calls_are_no_error(names):
    class Unused(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = L.Dense(1), L.Dense(1)

        def call(self, x):
            return self.used(x)

    with pytest.warns(UserWarning, match="unbuilt state"):
        model = called(Unused(), 2)
    assert names(model) == ["used/kernel", "used/bias"]


def test_naming_costs_in_proportion_to_the_layers():
    """Calls are counted, not seconds: a walk that looks at every layer for every layer shows."""

    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(1,), name="scale")
            self.built = True

    class Deep(keras.layers.Layer):
        def __init__(self, count):
            super().__init__()
            self.parts = [Scale() for _ in range(count)]
            for part in self.parts:
                part.build(None)
            self.built = True

    def calls(count):
        deep = Deep(count)
        profile = cProfile.Profile()
        found = profile.runcall(optim.named_variables, deep)
        assert list(found)[-1] == f"parts/{count - 1}/scale" and len(found) == count
        return pstats.Stats(profile).total_calls

    assert calls(400) < 2.5 * calls(200)
