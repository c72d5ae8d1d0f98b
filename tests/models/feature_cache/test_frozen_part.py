"""Where the frozen part ends: by what trains, with dropout and augmentation on either side."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import models, optim
from gradloop.models.feature_cache.frozen_part import augmentation_layers, split_frozen, trained_variables

L = keras.layers


def chain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.RandomFlip(name="flip"),
            L.Conv2D(4, 3, name="conv1"),
            L.Dropout(0.1, name="between"),
            L.Conv2D(4, 3, name="conv2"),
            L.GlobalAveragePooling2D(name="pool"),
            L.Dropout(0.5, name="before"),
            L.Dense(4, name="hidden"),
            L.Dense(2, name="head"),
        ],
        name="net",
    )


def named(model, *filters):
    return split_frozen(model, trained_variables(model, list(filters)))


def rest_of(parts):
    return [layer.name for layer in parts.rest.layers if not isinstance(layer, L.InputLayer)]


@pytest.mark.parametrize(
    ("filters", "rest"),
    [
        (["head"], ["head"]),
        (["hidden", "head"], ["before", "hidden", "head"]),
        (["hidden"], ["before", "hidden", "head"]),
        (["conv2"], ["between", "conv2", "pool", "before", "hidden", "head"]),
    ],
)
def test_the_cut_is_as_late_as_it_can_be(filters, rest):
    # Dropout with frozen weights after it stays in the frozen part, where it is off.
    assert rest_of(named(chain(), *filters)) == rest


def test_kinds_of_choices():
    model = chain()
    plan = optim.partition(model, {"body": optim.Group("conv", frozen=True)}, rest="train")
    expected = optim.select(model, "hidden", "head")
    for trained in (plan, expected, ["hidden", "head"]):
        assert [id(v) for v in trained_variables(model, trained)] == [id(v) for v in expected]
    assert len(trained_variables(model, L.Dense)) == 4
    with pytest.raises(optim.SelectionError, match="heed"):
        trained_variables(model, "heed")
    with pytest.raises(
        ValueError,
        match="`trained` holds 'net/head/kernel', which is not a trainable variable of model 'net'",
    ):
        trained_variables(model, chain().get_layer("head").trainable_variables)
    with pytest.raises(ValueError, match="`trained` is a plan whose groups are all frozen"):
        trained_variables(model, optim.partition(model, {"all": optim.Group("*", frozen=True)}))


def test_augmentation_is_told_from_dropout():
    assert augmentation_layers(named(chain(), "head").front) == ["flip"]
    assert augmentation_layers(models.lenet5_sequential(dropout=0.5)) == []


class Dropped(keras.layers.Layer):
    """Draws random numbers, in training mode alone, as layers of one's own do for dropout or augmentation."""

    def __init__(self, **options):
        super().__init__(**options)
        self.generators = [keras.random.SeedGenerator(1)]

    def call(self, x, training=False):
        return x * keras.random.uniform((1,), seed=self.generators[0]) if training else x


class ByTensorFlow(keras.layers.Layer):
    """The same without a generator."""

    def call(self, x, training=False):
        return x * tf.random.uniform((1,)) if training else x


class Attention(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.attention = L.MultiHeadAttention(1, 2, dropout=0.3)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x, training=False):
        return self.attention(x, x, training=training)


def sequence(*layers):
    return keras.Sequential([keras.Input((5, 3)), *layers, L.Flatten(), L.Dense(2, name="head")])


RANDOM_AND_FROZEN = {
    "gru": lambda: [L.GRU(4, name="last")],
    "dropout of an lstm": lambda: [L.Dense(4), L.LSTM(4, dropout=0.3, recurrent_dropout=0.3, name="last")],
    "both ways": lambda: [L.Bidirectional(L.GRU(4, dropout=0.3), name="last")],
    "cells": lambda: [L.RNN([L.GRUCell(4, dropout=0.3), L.LSTMCell(4)], name="last")],
    "wrapped": lambda: [L.TimeDistributed(L.Dropout(0.3)), L.Dense(4, name="last")],
    "attention": lambda: [Attention(), L.Dense(4, name="last")],
    "dropout of one's own": lambda: [L.Dense(4), Dropped(), L.Dense(4, name="last")],
    "by tensorflow": lambda: [L.Dense(4), ByTensorFlow(), L.Dense(4, name="last")],
}


@pytest.mark.parametrize("kind", RANDOM_AND_FROZEN)
def test_what_is_off_in_inference_is_computed_once(kind):
    keras.utils.set_random_seed(0)
    model, x = sequence(*RANDOM_AND_FROZEN[kind]()), np.random.default_rng(0).random((4, 5, 3), "float32")
    parts = named(model, "head")
    assert rest_of(parts) == ["head"]
    assert augmentation_layers(parts.front) == []
    cached = models.cache_frozen(model, "head", x)
    np.testing.assert_allclose(cached.model(cached.x), model(x, training=False), atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Dropped(name="augments")],
        lambda: [L.Normalization(mean=0.0, variance=1.0), L.Rescaling(2.0), Dropped(name="augments")],
        lambda: [keras.Sequential([Dropped(name="augments")])],
        lambda: [ByTensorFlow(name="augments")],
        lambda: [L.Lambda(tf.random.shuffle, name="augments")],
        lambda: [L.Dense(3), L.Lambda(lambda x: x + tf.random.normal(tf.shape(x)), name="augments")],
        lambda: [L.Dense(3), L.Reshape((5, 3, 1)), L.RandomFlip(name="augments"), L.Reshape((5, 3))],
        lambda: [L.Reshape((5, 3, 1, 1)), L.TimeDistributed(L.RandomFlip(), name="augments"), L.Flatten()],
    ],
)
def test_what_changes_examples_augments(layers):
    model = sequence(*layers(), L.Dense(4))
    assert augmentation_layers(named(model, "head").front) == ["augments"]


def test_what_draws_before_the_head_trains_with_it():
    parts = named(sequence(L.Dense(4), ByTensorFlow(name="noise")), "head")
    assert rest_of(parts)[0] == "noise"


@pytest.mark.parametrize("wrapped", [lambda rnn: rnn, L.Bidirectional])
def test_states_of_the_batches_before_are_refused(wrapped):
    model = keras.Sequential(
        [keras.Input(batch_shape=(2, 5, 3)), wrapped(L.GRU(4, stateful=True, name="rnn"))]
    )
    model.add(L.Dense(2, name="head"))
    with pytest.raises(
        ValueError, match="'(forward_)?rnn' with `stateful=True` before what trains.*stateful=F"
    ):
        models.cache_frozen(model, "head", np.zeros((4, 5, 3), "float32"), batch_size=2)


def test_nothing_is_frozen_before():
    with pytest.raises(ValueError, match="no layer with weights is frozen before 'conv1'"):
        named(chain(), "conv1", "head")
    with pytest.raises(ValueError, match="whose code alone knows"):
        named(models.LeNet5(), "fc3")
