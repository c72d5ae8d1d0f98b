"""Cuts of a graph: a chain, branches, a skip over the cut, models within models."""

import keras
import numpy as np
import pytest

from gradloop import models
from gradloop.models.graph.split import run_partly_training, split_graph, without_nested_models

L = keras.layers


def net():
    """Two inputs, a branch, a skip from the first input to the end, two outputs."""
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    stem = L.Dense(3, name="stem")(L.Add(name="sum")([a, b]))
    left, right = L.Dense(2, name="left")(stem), L.Dense(2, name="right")(stem)
    end = L.Concatenate(name="end")([left, right, a])
    return keras.Model({"a": a, "b": b}, {"end": end, "left": left}, name="net")


def inputs():
    rng = np.random.default_rng(0)
    return {"a": rng.random((4, 3), "float32"), "b": rng.random((4, 3), "float32")}


def whole(parts, x):
    computed = [] if parts.front is None else [np.array(part) for part in keras.tree.flatten(parts.front(x))]
    return parts.rest(parts.rest_inputs(computed, x))


@pytest.mark.parametrize(
    ("rest", "tensors"),
    [({"left"}, 3), ({"left", "right"}, 2), ({"end"}, 3), ({"stem"}, 2), ({"sum"}, 2), ({"right"}, 3)],
)
def test_front_and_rest_are_the_whole(rest, tensors):
    model = net()
    parts = split_graph(model, lambda call: call.operation.name in rest)
    assert len(parts.sources) == tensors
    assert list(parts.sources).count((True, 0)) == 1  # `a` goes past the cut, or is the cut
    assert (parts.front is None) == (rest == {"sum"})
    one, other = model(inputs()), whole(parts, inputs())
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    names = [layer.name for layer in parts.rest.layers if layer.weights]
    assert all(model.get_layer(name) is parts.rest.get_layer(name) for name in names)


def test_models_within_models_are_opened():
    inner = keras.Sequential([keras.Input((3,)), L.Dense(3, name="one"), L.Dense(3, name="two")])
    middle = net()
    a = keras.Input((3,))
    start = L.Dense(3, name="start")(a)
    ends = middle({"a": inner(start), "b": start})
    model = keras.Model(a, [L.Dense(2, name="head")(ends["end"]), inner(start)])
    opened = without_nested_models(model)
    assert not any(isinstance(layer, keras.Model) for layer in opened.layers)
    x = inputs()["a"]
    for one, other in zip(model(x), opened(x)):
        np.testing.assert_array_equal(one, other)
    assert {id(v) for v in opened.weights} == {id(v) for v in model.weights}
    flat = models.lenet5_functional()
    assert without_nested_models(flat) is flat


def test_a_model_within_is_called_by_the_names_of_its_inputs():
    z, a = keras.Input((3,), name="z"), keras.Input((3,), name="a")
    inner = keras.Model([z, a], L.Subtract()([z, a]))
    one, other = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([one, other], inner({"z": one, "a": other}))
    x = list(inputs().values())
    np.testing.assert_array_equal(without_nested_models(model)(x), x[0] - x[1])


def test_some_layers_run_in_training_mode_and_no_others():
    x = np.ones((4, 3), "float32")
    keep, drop = L.Dropout(0.5, name="keep"), L.Dropout(0.5, name="drop")
    a = keras.Input((3,), name="a")
    model = keras.Model(a, [keep(a), drop(a) + 1.0])
    kept, dropped = run_partly_training(model, x.astype("float64"), ["drop"])
    np.testing.assert_array_equal(kept, x)
    assert kept.dtype == "float32" and set(np.unique(dropped)) == {1.0, 3.0}


def test_a_masked_sequence_is_not_cut():
    words = keras.Input((5,), dtype="int32")
    embedded = L.Embedding(7, 3, mask_zero=True, name="embedding")(words)
    model = keras.Model(words, L.Dense(2, name="head")(L.LSTM(4, name="lstm")(embedded)))
    with pytest.raises(ValueError, match="cut where a mask goes with the values"):
        split_graph(model, lambda call: call.operation.name == "lstm")
    assert split_graph(model, lambda call: call.operation.name == "head").front is not None


def test_nothing_after_the_cut():
    with pytest.raises(ValueError, match="'net' has nothing after the cut"):
        split_graph(net(), lambda call: False)
