"""Automatic layer names, counted anew."""

import keras

from gradloop.optim.naming.layer_names import stable_layer_names

L = keras.layers


def test_automatic_names_are_counted_anew_by_class():
    layers = [L.Dense(1), L.ReLU(), L.Dense(1), L.ReLU(), L.Dense(1, name="mine")]
    expected = ["dense", "re_lu", "dense_1", "re_lu_1", "mine"]
    assert stable_layer_names(layers) == expected
    assert stable_layer_names(layers[2:]) == ["dense", "re_lu", "mine"]
    assert stable_layer_names([]) == []
