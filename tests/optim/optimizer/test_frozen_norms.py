"""A BatchNorm in a frozen group: told where nothing keeps its statistics, and how to keep them."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim

L = keras.layers
X = np.random.default_rng(0).normal(3, 2, (8, 4)).astype("float32")
Y = np.zeros((8, 2), "float32")
MATCH = (
    "BatchNormalization 'norm' is in a frozen group .* Set `layer.trainable = False` on it, after the plan"
)


def made(frozen=True):
    layers = [L.BatchNormalization(name="norm"), L.LayerNormalization(name="other"), L.Dense(2, name="head")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    groups = {"body": optim.Group(~optim.name("head"), frozen=frozen), "head": "head"}
    model.compile(optim.GroupedOptimizer(keras.optimizers.SGD(0.1), optim.partition(model, groups)), "mse")
    model.run_eagerly = True
    return model


def fit(model):
    model.fit(X, Y, verbose=0)


def own_loop(model):
    update = loops.Update(model.optimizer, model.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X, training=True) - Y) ** 2)
    update(tape.gradient(loss, [variable.value for variable in update.variables]))


@pytest.mark.parametrize("train", [fit, own_loop])
def test_it_is_told_once(train):
    model = made()
    with pytest.warns(UserWarning, match=MATCH):
        train(model)
    assert np.any(model.get_layer("norm").moving_mean.numpy())
    train(model)


def test_it_is_told_when_it_is_frozen_later(tmp_path):
    model = made(frozen=False)
    fit(model)
    with pytest.warns(UserWarning, match=MATCH):
        model.optimizer.freeze("body")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match=MATCH):
        fit(again)


@pytest.mark.parametrize("train", [fit, own_loop])
def test_the_way_out(train):
    model = made()
    model.get_layer("norm").trainable = False
    model.compile(model.optimizer, "mse", run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, np.zeros(4))


def test_a_step_keeps_them():
    model = made()
    loops.TrainStep(model, "mse", model.optimizer)(X, Y)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, np.zeros(4))
