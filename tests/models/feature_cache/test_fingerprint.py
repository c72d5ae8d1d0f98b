"""The checksum of layers, weights and data that features are made of."""

import keras
import numpy as np
import pytest

from gradloop.models.feature_cache.fingerprint import fingerprint

L = keras.layers


def front(units=3, **options):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), L.Dense(units, **options), L.ReLU()])


X = np.ones((5, 4), "float32")


def test_a_fingerprint_is_of_layers_weights_data_and_copies():
    key = fingerprint(front(), X, 0)
    # Keras numbers the second model's layers anew.
    assert fingerprint(front(), X.copy(), 0) == key
    changed = front()
    changed.layers[0].bias.assign([0.0, 0.0, 1.0])
    others = [
        fingerprint(front(), X, 2),
        fingerprint(front(), X + 1, 0),
        fingerprint(front(), X.astype("float64"), 0),
        fingerprint(front(), X.reshape(4, 5), 0),
        fingerprint(front(activation="relu"), X, 0),
        fingerprint(changed, X, 0),
    ]
    assert len({key, *others}) == 7


def test_a_fingerprint_is_of_constants_in_the_graph():
    def model(factor):
        x = keras.Input((2,))
        return keras.Model(x, x * factor)

    x = np.ones((3, 2), "float32")
    keys = [fingerprint(model(factor), x, 0) for factor in (2.0, 2.0, 3.0, np.ones(2, "f"), np.zeros(2, "f"))]
    assert keys[0] == keys[1] and len(set(keys)) == 4


def test_a_fingerprint_is_of_what_a_lambda_does():
    def key(function):
        return fingerprint(keras.Sequential([keras.Input((4,)), L.Lambda(function)]), X, 0)

    def times(number):
        return lambda x: x * number

    def compiled(source):
        return eval(compile(source, "a file", "eval"))

    one = compiled("lambda x: x * 0.1")
    found = key(one)
    one(X)
    # Python's own form of the code goes by how often a constant is referred to, and by lines.
    constants = one.__code__.co_consts
    assert found == key(one) == key(compiled("\n\nlambda x: x * 0.1")) and 0.1 in constants
    others = ["x * 0.2", "x + 0.1", "abs(x)", "x.__neg__()", "(lambda y: y * 3)(x)", "(lambda y: y * 4)(x)"]
    keys = [found, key(times(2)), key(times(3)), *(key(compiled(f"lambda x: {other}")) for other in others)]
    assert key(times(2)) == keys[1] and len(set(keys)) == 9


def inner(units=3, **options):
    """A model to wrap: its layers are named by Keras, as its inputs are."""
    x = keras.Input((4,))
    one, other = L.Dense(units, **options)(x), L.Dense(units)(x)
    return keras.Model(x, one - other * 2.0)


def swapped():
    x = keras.Input((4,))
    one, other = L.Dense(3)(x), L.Dense(3)(x)
    return keras.Model(x, other - one * 2.0)


WRAPPED = {
    "layer": lambda: L.TimeDistributed(L.Dense(3)),
    "activation": lambda: L.TimeDistributed(L.Dense(3, "relu")),
    "layer as activation": lambda: L.Dense(3, activation=L.LeakyReLU(0.1)),
    "another layer as activation": lambda: L.Dense(3, activation=L.LeakyReLU(0.2)),
    "two directions": lambda: L.Bidirectional(L.LSTM(3)),
    "cells": lambda: L.RNN([L.LSTMCell(3), L.GRUCell(3)]),
    "other cells": lambda: L.RNN([L.LSTMCell(3), L.GRUCell(3, reset_after=False)]),
    "chain": lambda: L.TimeDistributed(keras.Sequential([keras.Input((4,)), L.Dense(3), L.ReLU()])),
    "model": lambda: L.TimeDistributed(inner()),
    "model's activation": lambda: L.TimeDistributed(inner(activation="relu")),
    "model's order": lambda: L.TimeDistributed(swapped()),
    "wrapper": lambda: L.TimeDistributed(L.TimeDistributed(L.Dense(3))),
    "Lambda": lambda: L.TimeDistributed(L.Lambda(eval("lambda x: x * 0.1"))),
    "another Lambda": lambda: L.TimeDistributed(L.Lambda(eval("lambda x: x * 0.2"))),
    # Here a `name` means something.
    "precision": lambda: L.TimeDistributed(L.Dense(3, dtype="mixed_float16")),
    "another precision": lambda: L.TimeDistributed(L.Dense(3, dtype="mixed_bfloat16")),
}


def wrapped_key(kind):
    shape = (2, 2, 4) if kind == "wrapper" else (2, 4)
    keras.utils.set_random_seed(0)
    return fingerprint(keras.Sequential([keras.Input(shape), WRAPPED[kind]()]), np.ones((3, *shape), "f"), 0)


@pytest.mark.parametrize("kind", WRAPPED)
def test_names_of_layers_within_others_are_left_out(kind):
    assert wrapped_key(kind) == wrapped_key(kind)


def test_what_else_layers_within_others_were_made_with_is_not():
    assert len({wrapped_key(kind) for kind in WRAPPED}) == len(WRAPPED)


class Named:
    """No layer: a `name` of it may be what it does."""

    def __init__(self, name):
        self.name = name

    def __call__(self, shape, dtype=None):
        return keras.ops.ones(shape, dtype)

    def get_config(self):
        return {"name": self.name}


def test_names_of_what_is_no_layer_are_told():
    keys = [fingerprint(front(kernel_initializer=Named(name)), X, 0) for name in ("one", "one", "other")]
    assert keys[0] == keys[1] != keys[2]


class Scaled(keras.layers.Layer):
    """Made with an array, which Keras cannot put into a config by itself."""

    def __init__(self, factors, **options):
        super().__init__(**options)
        self.factors = factors

    def call(self, x):
        return x * self.factors

    def compute_output_shape(self, shape):
        return shape


def test_a_layer_that_cannot_tell_what_it_was_made_with():
    layer = Scaled(np.ones(4, "float32"), name="scale")
    way_out = "Define `get_config` in {}, or in the class of the layer inside it .*`path=None`"
    for outer, message in (
        (layer, "`path`: layer 'scale', a Scaled, has no `get_config`.*" + way_out.format("Scaled")),
        (L.TimeDistributed(layer, name="all"), "layer 'all', a TimeDistributed, .*"),
    ):
        x = keras.Input((2, 4))
        with pytest.raises(ValueError, match=message) as caught:
            fingerprint(keras.Model(x, outer(x)), np.ones((3, 2, 4), "float32"), 0)
        assert isinstance(caught.value.__cause__, NotImplementedError)
        assert "Scaled" in str(caught.value.__cause__)


def test_an_operation_that_cannot_tell_what_it_was_made_with():
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.clip(x, np.zeros(4, "float32"), np.ones(4, "float32")))
    # Nobody can define `get_config` in Keras' own operations.
    message = r"`path`: operation 'clip\w*', a Clip, cannot tell .* such operation\. Keep .*`path=None`"
    with pytest.raises(ValueError, match=message) as caught:
        fingerprint(model, X, 0)
    assert "get_config" not in str(caught.value)
    assert isinstance(caught.value.__cause__, NotImplementedError)
