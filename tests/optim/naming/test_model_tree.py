"""A model's layers and variables in their places, against lists written out by hand."""

import keras
import pytest

from gradloop.optim.naming.model_tree import model_tree, stable_layer_names

L = keras.layers


def transfer():
    """A model with a nested one, automatic names, a shared layer and a layer without variables."""
    inner_in = keras.Input((3,))
    inner = keras.Model(inner_in, L.BatchNormalization(name="norm")(L.Dense(3)(inner_in)), name="base")
    x = keras.Input((3,))
    shared = L.Dense(3, name="shared")
    hidden = L.Dropout(0.5, name="drop")(shared(inner(shared(x))))
    return keras.Model(x, L.Dense(2)(hidden))


@pytest.fixture
def model():
    keras.Sequential([L.Dense(1), L.Dense(1)])  # so that Keras' own numbers do not begin at none
    return transfer()


def test_layers_are_in_the_models_order(model):
    tree = model_tree(model)
    paths = [node.path for node in tree.nodes if not isinstance(node.layer, L.InputLayer)]
    assert sorted(paths) == ["base", "base/dense", "base/norm", "dense", "drop", "shared"]
    # A layer comes before those inside of it and after those that are listed before it.
    places = [node.layer for node in tree.nodes]
    listed = [layer for layer in places if any(layer is own for own in model.layers)]
    assert listed == list(model.layers)
    base = model.get_layer("base")
    after = places.index(base) + 1
    assert places[after : after + len(base.layers)] == list(base.layers)
    assert [node.position for node in tree.nodes] == sorted(node.position for node in tree.nodes)


def test_layers_around_and_owners(model):
    tree = model_tree(model)
    base = model.get_layer("base")
    around = {node.path: node.around for node in tree.nodes}
    assert around["base/norm"] == (base,) and around["base"] == around["shared"] == ()
    assert [node.layer for node in tree.owners] == [info.layer for info in tree.infos]
    assert [node.path for node in tree.owners] == [name.rsplit("/", 1)[0] for name in tree.names]


def test_variables_are_in_the_order_of_weights(model):
    tree = model_tree(model)
    assert tree.model is model
    assert [id(info.variable) for info in tree.infos] == [id(v) for v in model.weights]
    assert [info.kind for info in tree.infos] == [name.rsplit("/", 1)[-1] for name in tree.names]
    assert [info.variable.name for info in tree.infos] == [info.kind for info in tree.infos]


def test_names_that_keras_shows(model):
    tree = model_tree(model)
    assert tree.renumbered
    automatic = {layer.name for layer in (model.layers[-1], model.get_layer("base").layers[1])}
    shown = {name: keras_name for name, keras_name in zip(tree.names, tree.shown) if name != keras_name}
    assert set(shown) == {f"{where}dense/{kind}" for where in ("", "base/") for kind in ("kernel", "bias")}
    assert {name.split("/")[-2] for name in shown.values()} == automatic
    own = keras.Sequential([keras.Input((2,)), L.Dense(1, name="head")])
    assert not model_tree(own).renumbered and list(model_tree(own).shown) == ["head/kernel", "head/bias"]


def test_beneath(model):
    tree = model_tree(model)
    base = model.get_layer("base")

    def names(layers):
        return [name for name, hit in zip(tree.names, tree.beneath(layers)) if hit]

    norm = [f"base/norm/{kind}" for kind in ("gamma", "beta", "moving_mean", "moving_variance")]
    assert names([base]) == ["base/dense/kernel", "base/dense/bias", *norm]
    assert names([base.get_layer("norm")]) == norm
    assert set(names([model.get_layer("shared"), model.layers[-1]])) == {
        *("shared/kernel", "shared/bias", "dense/kernel", "dense/bias")
    }
    assert names([model.get_layer("drop")]) == names([]) == names([L.Dense(1)]) == []
    assert all(tree.beneath([model]))


def test_trainable(model):
    """As of now: a layout is not asked to foresee what is frozen later."""
    tree = model_tree(model)
    assert tree.trainable() == ["moving" not in name for name in tree.names]
    model.get_layer("base").trainable = False
    assert tree.trainable() == [not name.startswith("base/") for name in tree.names]
    model.trainable = False
    assert not any(tree.trainable())


def test_a_layer_of_the_model_is_laid_out_by_itself(model):
    inner = model_tree(model.get_layer("base"))
    whole = model_tree(model)
    assert [f"base/{name}" for name in inner.names] == [n for n in whole.names if n.startswith("base/")]
    assert all(node.around == () for node in inner.nodes)


def test_automatic_names_are_counted_anew_by_class():
    layers = [L.Dense(1), L.ReLU(), L.Dense(1), L.ReLU(), L.Dense(1, name="mine")]
    expected = ["dense", "re_lu", "dense_1", "re_lu_1", "mine"]
    assert stable_layer_names(layers) == expected
    assert stable_layer_names(layers[2:]) == ["dense", "re_lu", "mine"]
    assert stable_layer_names([]) == []
