"""Stable names: unique, complete, in order, the same in every process and after loading."""

import json
from pathlib import Path

import keras
import pytest

from gradloop import optim
from gradloop.optim.naming.layer_names import stable_layer_names
from tests.programs import Program

L = keras.layers


def called(model, *shape):
    model(keras.ops.ones((2, *shape)))
    return model


@keras.saving.register_keras_serializable("gradloop_tests")
class Block(keras.layers.Layer):
    """Makes its layers in `build`, and keeps them under private names."""

    def build(self, shape):
        self._dense = L.Dense(3)
        self._dense.build(shape)
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return self._dense(x) * self.scale


@keras.saving.register_keras_serializable("gradloop_tests")
class Everything(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._stem = L.Dense(3)
        self.blocks = [Block(), Block()]
        self.towers = {"left": L.Dense(3), "right": (L.Dense(3), L.BatchNormalization())}
        self.again = self._stem
        self.head = keras.Sequential([L.Dense(3), L.Dense(2), L.Dense(1, name="out")])

    def call(self, x):
        x = self.again(self._stem(x))
        for block in self.blocks:
            x = block(x)
        x = self.towers["left"](x)
        for layer in self.towers["right"]:
            x = layer(x)
        return self.head(x)


EVERYTHING = {
    "again/kernel",
    "again/bias",
    "blocks/0/dense/kernel",
    "blocks/0/dense/bias",
    "blocks/0/scale",
    "blocks/1/dense/kernel",
    "blocks/1/dense/bias",
    "blocks/1/scale",
    "towers/left/kernel",
    "towers/left/bias",
    "towers/right/0/kernel",
    "towers/right/0/bias",
    "towers/right/1/gamma",
    "towers/right/1/beta",
    "towers/right/1/moving_mean",
    "towers/right/1/moving_variance",
    "head/dense/kernel",
    "head/dense/bias",
    "head/dense_1/kernel",
    "head/dense_1/bias",
    "head/out/kernel",
    "head/out/bias",
}


def functional():
    """Automatic and given names, a nested model, a shared layer, an explicit name in the way."""
    x = keras.Input((4,))
    shared = L.Dense(4)
    h = shared(shared(x))
    h = L.BatchNormalization(name="dense_1")(h)
    h = L.Dense(4)(h)
    inner_in = keras.Input((4,))
    inner = keras.Model(inner_in, L.Dense(2)(L.Dense(4)(inner_in)), name="inner")
    return keras.Model(x, L.Dense(1, name="head")(inner(h)))


FUNCTIONAL = [
    "dense/kernel",
    "dense/bias",
    "dense_1/gamma",
    "dense_1/beta",
    "dense_1/moving_mean",
    "dense_1/moving_variance",
    "dense_2/kernel",
    "dense_2/bias",
    "inner/dense/kernel",
    "inner/dense/bias",
    "inner/dense_1/kernel",
    "inner/dense_1/bias",
    "head/kernel",
    "head/bias",
]


def test_subclassed_model_is_named_by_attributes(names):
    assert set(names(called(Everything(), 3))) == EVERYTHING


def test_functional_model_is_named_by_layers_counted_anew(names):
    assert names(functional()) == FUNCTIONAL
    assert names(functional()) == FUNCTIONAL


def test_layer_names_are_counted_around_names_of_the_users_own():
    layers = [
        L.Dense(1),
        L.BatchNormalization(name="dense_1"),
        L.Dense(1),
        L.Dense(1, name="dense_01"),
        L.Dense(1),
        L.ReLU(name="same"),
        L.ReLU(name="same"),
    ]
    assert stable_layer_names(layers) == [
        *("dense", "dense_1", "dense_2", "dense_01", "dense_3", "same", "same_1")
    ]


def test_functional_inside_subclassed_and_subclassed_inside_functional(names):
    class Wrapper(keras.Model):
        def __init__(self):
            super().__init__()
            self.backbone = functional()

        def call(self, x):
            return self.backbone(x)

    assert names(called(Wrapper(), 4)) == [f"backbone/{name}" for name in FUNCTIONAL]
    x = keras.Input((4,))
    around = [names(keras.Model(x, Wrapper()(x))) for _ in range(2)]
    assert around[0] == around[1] == [f"wrapper/backbone/{name}" for name in FUNCTIONAL]


def test_names_survive_saving_and_loading(tmp_path):
    for number, model in enumerate([called(Everything(), 3), functional()]):
        path = tmp_path / f"{number}.keras"
        model.save(path)
        before = optim.named_variables(model)
        after = optim.named_variables(keras.models.load_model(path))
        assert list(before) == list(after)
        for name, variable in before.items():
            assert (keras.ops.convert_to_numpy(variable) == after[name].numpy()).all()


def test_names_are_the_same_in_another_process(tmp_path, names):
    model = called(Everything(), 3)
    paths = [str(tmp_path / "everything.keras"), str(tmp_path / "functional.keras")]
    model.save(paths[0])
    functional().save(paths[1])
    found = Program(Path(__file__).parent / "programs" / "names.py", *paths, folder=tmp_path).finish()
    here = [names(model), names(functional())]
    assert json.loads(found) == here + here


@pytest.mark.parametrize("make", [Everything, lambda: keras.Sequential([L.Dense(1)])])
def test_unbuilt_model_says_how_to_build(make):
    ask = "call it once on a batch, call `model.build.input_shape.`, or start it with `keras.Input"
    with pytest.raises(optim.NotBuiltError, match=ask):
        optim.named_variables(make())
    assert issubclass(optim.NotBuiltError, ValueError)


def test_model_that_its_build_did_not_build_is_to_be_called():
    model = Everything()
    model.built = True  # all that Keras' `build` does for such a class, with a warning
    with pytest.raises(optim.NotBuiltError, match=r"blocks/1, .*: its `build` made none, so call it once"):
        optim.named_variables(model)


def test_partly_built_model_is_not_taken_for_a_whole_one():
    model = Everything()
    model._stem.build((None, 3))
    with pytest.raises(optim.NotBuiltError, match=r"not built: .*blocks/0, blocks/1, .*\.\.\."):
        optim.variable_infos(model)


@pytest.mark.parametrize("bad", [None, "model", 3, [L.Dense(1)]])
def test_not_a_model(bad):
    with pytest.raises(TypeError, match="`model` must be a keras.Model or a keras.layers.Layer"):
        optim.named_variables(bad)


def test_a_model_class_instead_of_a_model():
    with pytest.raises(TypeError, match="a class: call it to make a model"):
        optim.named_variables(Everything)
