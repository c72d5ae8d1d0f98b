"""What tests of state in files share: a compiled model of two layers, what a file holds, kinds of files."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim import Group, GroupedOptimizer, partition

K = keras.optimizers
L = keras.layers
X = np.random.RandomState(0).standard_normal((16, 4)).astype("float32")
Y = np.random.RandomState(1).standard_normal((16, 3)).astype("float32")
OPTIMIZERS = {
    "sgd": lambda: K.SGD(0.05),
    "momentum": lambda: K.SGD(0.05, momentum=0.9),
    "adam": lambda: K.Adam(0.05, use_ema=True, gradient_accumulation_steps=2),
    "nadam": lambda: K.Nadam(0.05),
    "adafactor": lambda: K.Adafactor(0.05),
    "lamb": lambda: K.Lamb(0.05),
}


def net(width=5, outputs=3, seed=0):
    keras.utils.set_random_seed(seed)
    body, head = L.Dense(width, activation="tanh", name="body"), L.Dense(outputs, name="head")
    return keras.Sequential([keras.Input((4,)), body, head])


def made(optimizer, groups=None, rest="error", model=None):
    """A model that is compiled with our optimizer."""
    model = model or net()
    if isinstance(optimizer, str):
        optimizer = OPTIMIZERS[optimizer]()
    plan = partition(model, groups or {"body": Group("body", lr_scale=0.1), "head": "head"}, rest)
    model.compile(GroupedOptimizer(optimizer, plan), "mse", run_eagerly=True)  # a few steps: no trace
    return model, model.optimizer


def fit(model, epochs=1):
    """One step an epoch."""
    model.fit(X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return [v.numpy() for v in model.weights]


def state(optimizer):
    """All that a file is to hold of it."""
    own = {v.name: v.numpy() for v in optimizer.variables[:2]}
    named = {name: v.numpy() for name, v in optimizer.grouped_update.state.items()}
    return {
        **own,
        **named,
        **{f"{n}/updates": c for n, c in optimizer.grouped_update.counts.by_name().items()},
    }


def through_weights(tmp_path):
    path = str(tmp_path / "w.weights.h5")
    return lambda model: model.save_weights(path), lambda model: model.load_weights(path)


def through_checkpoint(tmp_path):
    prefix, paths = str(tmp_path / "ck"), []

    def save(model):
        paths.append(tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(prefix))

    def load(model):
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        checkpoint.restore(paths[-1]).expect_partial()

    return save, load


FILES = pytest.mark.parametrize(
    "files", [through_weights, through_checkpoint], ids=["weights.h5", "checkpoint"]
)
