"""A model's layers and variables in their layers, against lists written out by hand."""

import keras
import pytest

from gradloop.optim.naming.stable_names import tree_of

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
    tree = tree_of(model)
    paths = [node.path for node in tree.nodes if not isinstance(node.layer, L.InputLayer)]
    assert sorted(paths) == ["base", "base/dense", "base/norm", "dense", "drop", "shared"]
    # A layer comes before those inside of it and after those that are listed before it.
    layers = [node.layer for node in tree.nodes]
    listed = [layer for layer in layers if any(layer is own for own in model.layers)]
    assert listed == list(model.layers)
    base = model.get_layer("base")
    after = layers.index(base) + 1
    assert layers[after : after + len(base.layers)] == list(base.layers)
    assert [node.position for node in tree.nodes] == sorted(node.position for node in tree.nodes)


def test_layers_know_their_ancestors_and_variables_their_owners(model):
    tree = tree_of(model)
    base = model.get_layer("base")
    ancestors = {node.path: node.ancestors for node in tree.nodes}
    assert ancestors["base/norm"] == (base,) and ancestors["base"] == ancestors["shared"] == ()
    assert [node.layer for node in tree.owner_nodes] == [info.layer for info in tree.infos]
    assert [node.path for node in tree.owner_nodes] == [name.rsplit("/", 1)[0] for name in tree.names]


def test_variables_are_in_the_order_of_weights(model):
    tree = tree_of(model)
    assert tree.model is model
    assert [id(info.variable) for info in tree.infos] == [id(v) for v in model.weights]
    assert [info.kind for info in tree.infos] == [name.rsplit("/", 1)[-1] for name in tree.names]
    assert [info.variable.name for info in tree.infos] == [info.kind for info in tree.infos]


def test_names_that_keras_shows(model):
    tree = tree_of(model)
    assert tree.keras_numbers_differ
    automatic = {layer.name for layer in (model.layers[-1], model.get_layer("base").layers[1])}
    shown = {name: keras_name for name, keras_name in zip(tree.names, tree.keras_names) if name != keras_name}
    assert set(shown) == {f"{where}dense/{kind}" for where in ("", "base/") for kind in ("kernel", "bias")}
    assert {name.split("/")[-2] for name in shown.values()} == automatic
    own = keras.Sequential([keras.Input((2,)), L.Dense(1, name="head")])
    assert not tree_of(own).keras_numbers_differ and list(tree_of(own).keras_names) == [
        "head/kernel",
        "head/bias",
    ]


def test_inside(model):
    tree = tree_of(model)
    base = model.get_layer("base")

    def names(layers):
        return [name for name, hit in zip(tree.names, tree.inside(layers)) if hit]

    norm = [f"base/norm/{kind}" for kind in ("gamma", "beta", "moving_mean", "moving_variance")]
    assert names([base]) == ["base/dense/kernel", "base/dense/bias", *norm]
    assert names([base.get_layer("norm")]) == norm
    assert set(names([model.get_layer("shared"), model.layers[-1]])) == {
        *("shared/kernel", "shared/bias", "dense/kernel", "dense/bias")
    }
    assert names([model.get_layer("drop")]) == names([]) == names([L.Dense(1)]) == []
    assert all(tree.inside([model]))


def test_trainable(model):
    """As of now: the mask is that of the moment."""
    tree = tree_of(model)
    assert tree.trainable_mask() == ["moving" not in name for name in tree.names]
    model.get_layer("base").trainable = False
    assert tree.trainable_mask() == [not name.startswith("base/") for name in tree.names]
    model.trainable = False
    assert not any(tree.trainable_mask())


def test_a_layer_of_the_model_has_a_tree_of_its_own(model):
    inner = tree_of(model.get_layer("base"))
    whole = tree_of(model)
    assert [f"base/{name}" for name in inner.names] == [n for n in whole.names if n.startswith("base/")]
    assert all(node.ancestors == () for node in inner.nodes)
