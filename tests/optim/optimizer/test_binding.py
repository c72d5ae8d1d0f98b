"""Which variables an optimizer from a file gets, and when: all at once, by itself, or late."""

import copy
import pickle

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.optim import Group, GroupedOptimizer, named_variables, partition
from tests.optim.optimizer.saved import X, Y, fit, made, net, state
from tests.values import assert_same

K = keras.optimizers


def assert_same_weights(one, other):
    for left, right in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(left, right)


def switched(model, layer, trainable):
    """The model, compiled anew with the optimizer that it has, as Keras wants it."""
    model.get_layer(layer).trainable = trainable
    model.compile(model.optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    return model


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_of_the_optimizer_alone_trains_on(copied):
    model, optimizer = made("nadam")
    fit(model, 2)
    other = net()
    other.set_weights(model.get_weights())
    again = copied(copied(optimizer))  # a copy without variables is copied whole
    other.compile(again, "mse", run_eagerly=True)
    for each in (other, model):
        fit(each)
    assert_same_weights(other, model)
    assert_same(state(again), state(optimizer))


@pytest.mark.parametrize(
    "frozen, optimizer, ending",
    [
        ("body", "adam", "keras"),
        ("head", "momentum", "h5"),
        pytest.param("body", "adam", "h5", marks=pytest.mark.long),
        pytest.param("head", "momentum", "keras", marks=pytest.mark.release),
    ],
)
def test_a_layer_frozen_after_the_optimizer_was_made(frozen, optimizer, ending, tmp_path):
    model, _ = made(optimizer)
    fit(model, 3)
    fit(switched(model, frozen, False))
    model.save(tmp_path / f"model.{ending}")
    again = keras.models.load_model(tmp_path / f"model.{ending}")
    again.run_eagerly = True
    for each in (again, model):
        fit(each)
    assert_same_weights(again, model)
    assert len(again.optimizer.plan.variables) == 2
    again.save(tmp_path / "again.keras")  # with the state of the other two
    last = keras.models.load_model(tmp_path / "again.keras")
    for each in (again, last, model):
        fit(switched(each, frozen, True), 2)
    for each in (again, last):
        assert_same_weights(each, model)
        assert_same(state(each.optimizer), state(model.optimizer))


@pytest.mark.parametrize("optimizer", ["nadam", "adafactor"])
def test_half_of_a_group_frozen(optimizer, tmp_path):
    """A Keras optimizer counts for a whole group, and Nadam has a number in common for it."""
    model, _ = made(optimizer, {"all": "*"})
    fit(model, 2)
    fit(switched(model, "body", False))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for each in (again, model):
        fit(each)
        fit(switched(each, "body", True), 2)
    assert_same_weights(again, model)


def test_a_layer_unfrozen_after_the_optimizer_was_made(tmp_path):
    model = net()
    model.get_layer("body").trainable = False
    model, optimizer = made("adam", {"head": "head"}, model=model)
    fit(model, 2)
    model.get_layer("body").trainable = True
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert_same(state(again.optimizer), state(optimizer))
    for each in (again, model):
        fit(switched(each, "body", False))
    assert_same_weights(again, model)


def test_a_step_traces_again_for_what_comes_late(tmp_path):
    model, _ = made("adam")
    fit(model, 2)
    model.get_layer("body").trainable = False
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for each in (again, model):
        step = loops.TrainStep(each, "mse", each.optimizer)
        step(X, Y)
        each.get_layer("body").trainable = True
        for chosen in ("*", "head", "*"):
            step.train_only(chosen)
            step(X, Y)
        update = loops.Update(each.optimizer, each.trainable_variables)
        update([np.ones(v.shape, "float32") for v in each.trainable_variables])
    for one, other in zip(again.weights, model.weights):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert_same(state(again.optimizer), state(model.optimizer))


@pytest.mark.parametrize("make", [K.Nadam, K.Adafactor])
def test_within_a_loss_scale(make, tmp_path):
    model = net()
    plan = partition(model, {"body": Group("body", lr_scale=0.1), "head": "head"})
    model.compile(K.LossScaleOptimizer(GroupedOptimizer(make(0.05), plan)), "mse", run_eagerly=True)
    fit(model, 2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert_same(state(again.optimizer.inner_optimizer), state(model.optimizer.inner_optimizer))
    for each in (again, model):
        fit(each)
    assert_same_weights(again, model)


def of_parts(*parts):
    """A model whose class assigns layers of one shape in this order, and Keras counts on for their names.

    (Keras reads those after "layers" in the alphabet by their order.)
    """

    class Parts(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            for part in parts:
                setattr(self, part, keras.layers.Dense(4, activation="tanh"))
                getattr(self, part).build((None, 4))

        def call(self, x):
            return self.end(self.head(self.body(x)))

    return Parts


@pytest.mark.parametrize("how", ["keras", "pickle", pytest.param("config", marks=pytest.mark.release)])
def test_a_class_that_assigns_its_layers_in_another_order(how, tmp_path):
    first, second = of_parts("body", "head", "end"), of_parts("end", "head", "body")
    model = first()
    model(X)
    groups = {"body": Group("body", lr_scale=0.01), "head": "head", "end": Group("end", frozen=True)}
    _, optimizer = made("nadam", groups, model=model)
    y = X[:, ::-1]
    model.fit(X, y, batch_size=16, epochs=2, verbose=0)
    if how == "keras":
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Parts": second})
    else:
        again = second()
        again(X)
        for part in ("body", "head", "end"):
            getattr(again, part).set_weights(getattr(model, part).get_weights())
        copied = pickle.loads(pickle.dumps(optimizer)) if how == "pickle" else copy.deepcopy(optimizer)
        copied.build(again if how == "config" else again.trainable_variables)
        again.compile(copied, "mse", run_eagerly=True)
    again.run_eagerly = True
    for name, variable in again.optimizer.plan.variables.items():
        assert variable is named_variables(again)[name]
    for each in (model, again):
        each.fit(X, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    for part in ("body", "head", "end"):
        for left, right in zip(getattr(model, part).weights, getattr(again, part).weights, strict=True):
            np.testing.assert_array_equal(left, right)
    assert_same(state(again.optimizer), state(optimizer))
