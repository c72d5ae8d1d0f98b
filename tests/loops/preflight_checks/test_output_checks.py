"""Outputs that a loss does not take, and those that it does."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from .conftest import SPARSE, message, names

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
HOT, HOT_LOGITS = "categorical_crossentropy", keras.losses.CategoricalCrossentropy(from_logits=True)
BINARY, BINARY_LOGITS = "binary_crossentropy", keras.losses.BinaryCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("activation", "loss", "y"),
    [
        ("softmax", SPARSE, "y"),
        (None, LOGITS, "y"),
        ("softmax", HOT, "hot"),
        (None, HOT_LOGITS, "hot"),
        (None, keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), "hot"),
        ("sigmoid", BINARY, "yes"),
        (None, BINARY_LOGITS, "yes"),
        ("sigmoid", BINARY, "several"),
        (None, "mse", "numbers"),
        ("sigmoid", "mse", "yes"),
    ],
)
def test_outputs_that_fit(lab, activation, loss, y):
    several = (np.random.RandomState(0).rand(96, 3) > 0.5).astype("float32")
    targets = several if y == "several" else getattr(lab, y)
    units = 1 if y in ("yes", "numbers") else 3
    report = lab.report(lab.step(lab.net(units, activation), loss), lab.data(y=targets))
    assert names(report) == [] and "outputs_and_loss" in report.passed


@pytest.mark.parametrize(
    ("units", "activation", "loss", "y", "said"),
    [
        (3, "softmax", LOGITS, "y", "leave `from_logits` out"),
        (3, "softmax", HOT_LOGITS, "hot", "leave `from_logits` out"),
        (3, None, SPARSE, "y", "give the loss `from_logits=True`"),
        (3, None, HOT, "hot", "give the loss `from_logits=True`"),
        (3, "sigmoid", HOT, "hot", "end the network in a softmax"),
        (3, "sigmoid", SPARSE, "y", "end the network in a softmax"),
        (1, "sigmoid", SPARSE, "y", "the network has one output"),
        (1, "sigmoid", BINARY_LOGITS, "yes", "leave `from_logits` out"),
        (1, None, BINARY, "yes", "give the loss `from_logits=True`"),
        (1, "softmax", BINARY, "yes", "the softmax of one output is always 1"),
        (3, "softmax", BINARY, "hot", "use 'categorical_crossentropy'"),
        (3, "sigmoid", BINARY, "hot", "one of 3 classes (one-hot)"),
        (1, "sigmoid", BINARY, "signs", "targets are from -1 to 1"),
        (1, "relu", "mse", "numbers", "ends in a relu, whose outputs are at least 0"),
        (1, "sigmoid", "mae", "numbers", "between 0 and 1"),
        (1, "tanh", "mse", "numbers", "between -1 and 1"),
        (1, "softmax", "mse", "numbers", "always 1"),
    ],
)
def test_outputs_that_do_not_fit(lab, units, activation, loss, y, said):
    targets = 2 * lab.yes - 1 if y == "signs" else getattr(lab, y)
    report = lab.report(lab.step(lab.net(units, activation), loss), lab.data(y=targets))
    assert said in message(report, "outputs_and_loss")


def test_a_softmax_that_is_no_layer_is_seen(lab):
    inputs = keras.Input((8,))
    outputs = keras.ops.reshape(keras.ops.softmax(keras.layers.Dense(3)(inputs)), (-1, 3))
    report = lab.report(lab.step(keras.Model(inputs, outputs), LOGITS))
    assert "gives probabilities" in message(report, "outputs_and_loss")


def test_the_first_loss_beside_that_of_chance(lab):
    report = lab.report()
    assert "ln 3 = 1.1 is what chance gives" in report.passed["starting_loss"]
    model = lab.net(3, None)
    model.layers[-1].kernel.assign(50 * model.layers[-1].kernel)
    step = lab.step(model, LOGITS)
    said = message(lab.report(step), "starting_loss")
    # By hand: the mean of -log softmax over the batches that ran, all of them.
    losses = keras.losses.sparse_categorical_crossentropy(lab.y, model(lab.x), from_logits=True)
    assert f"the loss starts at {float(tf.reduce_mean(losses)):.3g}, and ln 3 = {math.log(3):.3g}" in said


@pytest.mark.parametrize(("above", "found"), [(1.8, False), (2.2, True)])
def test_a_loss_far_above_chance_alone_is_found(lab, above, found):
    model = lab.net(3, None)
    # All scores are alike but one: the loss is log(exp(score) + 2), less the score where it is the right one.
    scores = np.linspace(0, 20, 20001)
    losses = np.log(np.exp(scores) + 2) - scores * (lab.y == 0).mean()
    model.layers[-1].kernel.assign(np.zeros((16, 3)))
    model.layers[-1].bias.assign([scores[np.searchsorted(losses, math.log(3) + above)], 0.0, 0.0])
    assert ("starting_loss" in names(lab.report(lab.step(model, LOGITS)))) == found


def test_penalties_and_dropout_are_not_taken_for_a_high_loss(lab):
    l2 = keras.layers.Dense(64, kernel_regularizer=keras.regularizers.L2(1.0))
    report = lab.report(lab.step(lab.net(between=[l2, keras.layers.Dropout(0.5)])))
    assert names(report) == []


def test_what_is_not_known_is_left_out_by_name(lab):
    step = lab.step(loss=lambda model, batch: tf.reduce_mean(model(batch[0], training=True)))
    report = lab.report(step)
    assert "function of `(model, batch)`" in report.left_out["outputs_and_loss"]
    assert "function of `(model, batch)`" in report.left_out["starting_loss"]
    report = lab.report(lab.step(lab.net(1, None), "huber"), lab.data(y=lab.numbers))
    assert "what chance gives is not known for 'huber" in report.left_out["starting_loss"]
