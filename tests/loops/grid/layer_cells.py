"""Cells of the grid whose matter is a layer: what it sums over the batch, draws, or writes."""

from __future__ import annotations

import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops

from .harness import DIGITS, IMAGES, K, L, X, Y, cell, dense, equal, one_step, per_replica_count, run, same


@per_replica_count
def L1_and_L2(strategy):
    equal(strategy, make=lambda: dense(kernel_regularizer=keras.regularizers.L1L2(1e-3, 1e-2)))


def normalised(synchronized):
    layer = L.BatchNormalization(synchronized=synchronized, momentum=0.9, name="norm")
    return keras.Sequential([keras.Input((6,)), L.Dense(8, use_bias=False, name="first"), layer, L.Dense(3)])


@per_replica_count
def BatchNorm_synchronised(strategy):
    # Keras takes the variance as E[x^2] - E[x]^2 where one device takes E[(x - E[x])^2].
    equal(strategy, make=lambda: normalised(True), evaluated=True)


@per_replica_count
def BatchNorm_not_synchronised(strategy):
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        model = normalised(False)
        step = loops.TrainStep(model, DIGITS, K.SGD(0.1))
    norm, momentum = model.get_layer("norm"), 0.9
    mean, variance = np.zeros(8), np.ones(8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for first in (0, 16, 32):
            x, y = X[first : first + 16], Y[first : first + 16]
            hidden = x @ model.get_layer("first").kernel.numpy()
            one_step(step, x, y)
            n = len(x)
            parts = [hidden[r * n // replicas : (r + 1) * n // replicas] for r in range(replicas)]
            means, variances = zip(*((part.mean(0), part.var(0)) for part in parts))
            mean = momentum * mean + (1 - momentum) * np.mean(means, 0)
            variance = momentum * variance + (1 - momentum) * np.mean(variances, 0)
    warned = [str(one.message) for one in caught if "synchronized=True" in str(one.message)]
    assert len(warned) == (replicas > 1), warned
    for variable, expected in ((norm.moving_mean, mean), (norm.moving_variance, variance)):
        for local in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(local.numpy(), expected, rtol=1e-5, atol=1e-6)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras")
    np.testing.assert_allclose(loaded.get_layer("norm").moving_mean, mean, rtol=1e-5, atol=1e-6)
    loss = loops.evaluate(loops.EvalStep(model, DIGITS), loops.Batches(X, Y, 16))["loss"]
    alone = loops.evaluate(loops.EvalStep(loaded, DIGITS), loops.Batches(X, Y, 16))["loss"]
    np.testing.assert_allclose(loss, alone, rtol=1e-6)


@per_replica_count
def dropout(strategy):
    def make():
        return keras.Sequential([keras.Input((6,)), L.Dense(64, "relu"), L.Dropout(0.5), L.Dense(3)])

    same(run(strategy, make, epochs=4), run(strategy, make, epochs=4), 0.0)
    seen = []
    with strategy.scope():
        inputs = keras.Input((64,))
        dropped = L.Dropout(0.5)(inputs)
        masks = keras.Model(inputs, [dropped, L.Dense(1, use_bias=False)(dropped)])
        trained = loops.TrainStep(masks, loss_of(seen), K.SGD(0.0))
    # The batches hold the inputs alone, as the loss has no targets.
    trained.run(iter(loops.Batches(np.ones((8, 64), "float32"), None, 8)), 1)
    rows = np.concatenate(seen)
    here = 8 * len(strategy.extended.worker_devices) // strategy.num_replicas_in_sync
    assert len(rows) == here and len(np.unique(rows, axis=0)) == here, "two examples lost the same units"


def loss_of(seen):
    def loss(model, batch, training=True):
        dropped, predictions = model(batch, training=training)
        tf.py_function(lambda value: seen.append(value.numpy()), [dropped], [])
        return tf.reduce_mean(predictions)

    return loss


@cell
def convolutions(strategy):
    def make():
        convolution = L.Conv2D(4, 3, activation="relu", name="conv")
        return keras.Sequential(
            [keras.Input((6, 6, 1)), convolution, L.MaxPooling2D(), L.Flatten(), L.Dense(3)]
        )

    equal(strategy, make=make, x=IMAGES)


@cell
def a_metric_that_a_layer_holds(strategy):
    class Holds(L.Layer):
        def __init__(self):
            super().__init__()
            self.level = keras.metrics.Mean(name="level")

        def call(self, x):
            self.level.update_state(x)
            return x

    equal(strategy, make=lambda: keras.Sequential([keras.Input((6,)), Holds(), L.Dense(3)]), evaluated=True)


@cell
def a_model_that_asks_for_the_number_of_examples(strategy):
    class Asks(L.Layer):
        def call(self, x):
            return tf.concat([x[n : n + 1] for n in range(x.shape[0])], 0)

    found = []
    for where in (None, strategy):
        keras.utils.set_random_seed(0)
        with where.scope() if where else tf.name_scope(""):
            asks = Asks()
            model = keras.Sequential([keras.Input((6,), batch_size=16), asks, L.Dense(3)])
            step = loops.TrainStep(model, DIGITS, K.SGD(0.1))
        losses = step.run(iter(loops.Batches(X, Y, 16, shuffle=False)), 3)["loss"]
        found.append({"losses": losses, "kernel": model.layers[-1].kernel.numpy()})
    same(*found)
