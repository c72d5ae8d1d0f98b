"""The names of a model's variables: found once, and anew whenever the model holds other objects."""

import keras
import pytest
import tensorflow as tf

from gradloop.loops.step import named_model
from gradloop.loops.step.named_model import NamedModel


class Own:
    def __init__(self):
        self.count = tf.Variable(0)
        self.steps = 0


class Layer(keras.layers.Layer):
    def __init__(self):
        super().__init__(name="own")
        self.drop = keras.layers.Dropout(0.5)
        self.rng = tf.random.Generator.from_seed(1)
        self.one, self.many, self.by_key = tf.Variable(1.0), [None, tf.Variable(2.0)], {}
        self.by_number = {0: tf.Variable(1.0)}
        self.both = {"a": tf.Variable(1.0), "b": tf.Variable(2.0)}
        self.own, self.nested = Own(), ({"deep": []},)

    def call(self, x):
        return x


@pytest.fixture
def layer():
    return Layer()


@pytest.fixture
def model(layer):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense"), layer])


@pytest.fixture
def walks(monkeypatch):
    """The models that were walked through."""
    walked, tree_of = [], named_model.tree_of
    monkeypatch.setattr(named_model, "tree_of", lambda model: walked.append(model) or tree_of(model))
    return walked


def test_they_are_found_once(model, layer, walks):
    named = NamedModel(model)
    model.stop_training = False
    first = named.state()
    model.layers[0].kernel.assign(tf.ones((2, 2)))
    layer.own.steps = 1  # no object that could hold a variable
    model.stop_training = True
    model.history, model.optimizer, model.new = keras.callbacks.History(), keras.optimizers.SGD(), None
    model.compile(model.optimizer, keras.losses.MeanSquaredError())
    keras.layers.Dense(2)(keras.Input((3,)))
    again = named.state()
    assert [(name, id(variable)) for name, variable in again] == [(n, id(v)) for n, v in first]
    assert named.tree.names == ["dense/kernel", "dense/bias"] and len(walks) == 1


def _rename(layer):
    layer.both = dict(layer.both)
    layer.both["c"] = layer.both.pop("b")


# What code of the user's own may do between two checkpoints.
CHANGES = {
    "new": lambda layer: setattr(layer, "new", tf.Variable(3.0)),
    "another in its place": lambda layer: setattr(layer, "one", tf.Variable(1.0)),
    "a generator": lambda layer: setattr(layer, "rng", tf.random.Generator.from_seed(2)),
    "moved in a list": lambda layer: layer.many.reverse(),
    "a key": lambda layer: layer.by_key.update({"key": tf.Variable(1.0)}),
    "another name": lambda layer: layer.both.update({"a": layer.both["b"], "b": layer.both["a"]}),
    "another key": _rename,
    "another key in its place": lambda layer: layer.both.__setitem__("c", layer.both.pop("b")),
    "a number as key": lambda layer: layer.by_number.__setitem__(1, layer.by_number.pop(0)),
    "a layer's name": lambda layer: setattr(layer, "name", "other"),
    "in an object": lambda layer: setattr(layer.own, "count", tf.Variable(1)),
    "deep inside": lambda layer: layer.nested[0]["deep"].append(tf.Variable(1)),
    "gone": lambda layer: layer.__delattr__("one"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_they_are_found_anew_when_something_is_another(model, layer, change):
    named = NamedModel(model)
    before = named.state()
    change(layer)
    found, wanted = named.state(), NamedModel(model).state()
    assert [(name, id(variable)) for name, variable in found] == [(n, id(v)) for n, v in wanted]
    assert [(name, id(variable)) for name, variable in found] != [(n, id(v)) for n, v in before]
