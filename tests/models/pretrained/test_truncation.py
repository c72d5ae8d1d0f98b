"""Truncating: by name, by layer, by number; branches; doors."""

import keras
import numpy as np
import pytest

from gradloop import models

pytestmark = pytest.mark.numbers

L = keras.layers


def branching():
    x = keras.Input((4,), name="x")
    stem = L.Dense(3, name="stem")(x)
    left, right = L.Dense(2, name="left")(stem), L.Dense(2, name="right")(stem)
    return keras.Model(x, L.Add(name="join")([left, right]), name="net")


def test_by_name_layer_and_number():
    model = models.lenet5_functional()
    x = np.random.default_rng(0).random((2, 28, 28, 1), "float32")
    layer = model.get_layer("fc1")
    expected = keras.Model(model.input, layer.output)(x)
    after = len(model.layers) - 1 - model.layers.index(layer)
    for wanted in ("fc1", layer, -after):
        cut = models.truncate(model, wanted)
        np.testing.assert_array_equal(cut(x), expected)
        assert cut.get_layer("fc1").kernel is layer.kernel


def test_sequential_and_branching():
    model = models.lenet5_sequential()
    assert models.truncate(model, "fc2").output_shape == (None, 84)
    assert models.truncate(branching(), "left").output_shape == (None, 2)
    assert [layer.name for layer in models.truncate(branching(), "left").layers] == ["x", "stem", "left"]


def test_a_model_of_other_calls_of_the_layers():
    # `layer.output` is that of the first call of a layer, here in another model.
    model = branching()
    other = keras.Input((4,))
    again = keras.Model(other, model.get_layer("left")(model.get_layer("stem")(other)))
    cut = models.truncate(again, "stem")
    x = np.ones((1, 4), "float32")
    np.testing.assert_array_equal(cut(x), model.get_layer("stem")(x))


def test_automatic_names_in_any_process():
    for _ in range(3):  # Keras counts on, past the names that are stable
        L.Add()
    x = keras.Input((2,))
    first, second = L.Add(), L.Add()
    model = keras.Model(x, L.Dense(1)(second([first([x, x]), x])))
    one = np.ones((1, 2), "float32")
    for name in (first.name, first, "add"):
        np.testing.assert_array_equal(models.truncate(model, name)(one), 2 * one)
    if second.name != "add_1":
        np.testing.assert_array_equal(models.truncate(model, "add_1")(one), 3 * one)
    first = L.Add(name="add_1")
    model = keras.Model(x, L.Dense(1)(L.Add(name="add_3")([first([x, x]), x])))
    with pytest.raises(ValueError, match="'add_1' is the stable name of one layer .* and the one that Keras"):
        models.truncate(model, "add_1")


def test_several_inputs():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    model = keras.Model({"a": a, "b": b}, L.Dense(1, name="last")(L.Add(name="sum")([a, b])))
    one = np.ones((1, 2), "float32")
    np.testing.assert_array_equal(models.truncate(model, "sum")({"a": one, "b": one}), 2 * one)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("lefty", "no layer of model 'net'. Did you mean 'left'"),
        (-1, "ends in 2 places, 'left', 'right': name the one to keep"),
        (-4, "take off 1 to 3 layers"),
        (1, "as a negative number"),
    ],
)
def test_what_cannot_be_cut(layer, message):
    with pytest.raises(ValueError, match=message):
        models.truncate(branching(), layer)


def test_a_number_takes_off_whole_blocks():
    x = keras.Input((3,))
    h = L.Dense(3, name="stem")(x)
    h = L.Add(name="sum")([h, L.Dense(3, name="b")(L.Dense(3, name="a")(h))])
    model = keras.Model(x, L.Dense(1, name="head")(h), name="net")
    for count, end in ((-1, "sum"), (-4, "stem")):
        assert models.truncate(model, count).layers[-1].name == end
    for count, end in ((-2, "b"), (-3, "a")):
        with pytest.raises(
            ValueError, match=f"`layer` {count}: .* ends within a block, at '{end}', .* 'sum': take"
        ):
            models.truncate(model, count)
        assert models.truncate(model, end).layers[-1].name == end  # asked for by name


def test_other_models_and_types():
    with pytest.raises(ValueError, match="LeNet5, whose code alone knows"):
        models.truncate(models.LeNet5(), "conv1")
    with pytest.raises(ValueError, match="start it with `keras.Input"):
        models.truncate(keras.Sequential([L.Dense(1)]), "dense")
    with pytest.raises(TypeError, match="`layer` must be a layer, its name or a negative number, not True"):
        models.truncate(branching(), True)
    inner = branching()
    x = keras.Input((4,))
    with pytest.raises(ValueError, match=r"truncate\(model.get_layer\('net'\), 'stem'\)"):
        models.truncate(keras.Model(x, inner(x)), "stem")
    shared = L.Dense(4, name="shared")
    with pytest.raises(ValueError, match="called 2 times"):
        models.truncate(keras.Model(x, shared(shared(x))), "shared")
