"""Runs whose loss is NaN where the weight is too large, so that they go back; and the same in NumPy."""

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, optim

K, K_CALLBACKS = keras.optimizers, keras.callbacks
EPOCHS, EVERY, LIMIT = 4, 3, 2.25
random = np.random.default_rng(5)
X = random.uniform(0.5, 1.5, 16)
Y = 2.0 * X + 0.5 * random.normal(size=16)  # 8 batches of 2
RATES = [0.1, 0.8, 0.8, 0.8]  # of the epochs


def by_numpy(times=3, factor=0.5):
    """Gradient descent that goes back where the weight is beyond LIMIT, where the loss is NaN.

    Returns the weight, the losses and cuts by epoch, and the steps before which it went back.
    """
    weight = cuts = 0.0
    saved, epoch, batch, losses, failed = (0, 0, 0.0, []), 0, 0, [], []
    means = []
    while epoch < EPOCHS:
        x, y = X[2 * batch : 2 * batch + 2], Y[2 * batch : 2 * batch + 2]
        if abs(weight) > LIMIT:
            failed.append(8 * epoch + batch)
            if cuts == times:
                raise ArithmeticError
            cuts += 1
            epoch, batch, weight, losses = saved
            losses = list(losses)
            continue
        errors = weight * x - y
        losses.append(np.mean(errors**2))
        weight -= RATES[epoch] * factor**cuts * np.mean(2 * x * errors)
        batch += 1
        if batch == 8:
            means.append((epoch, np.mean(losses), cuts))
            epoch, batch, losses = epoch + 1, 0, []
        if batch == 0 or (8 * epoch + batch) % EVERY == 0:
            saved = epoch, batch, weight, list(losses)
    rows = {number: (mean, count) for number, mean, count in means}
    return weight, [rows[n][0] for n in range(EPOCHS)], [rows[n][1] for n in range(EPOCHS)], failed


def beyond(model, batch):
    kernel = tf.convert_to_tensor(model.trainable_variables[0].value)
    x, y = batch
    outputs = model(x, training=True)
    losses = tf.reduce_mean((outputs - tf.cast(y, outputs.dtype)) ** 2, -1)
    bad = tf.where(tf.reduce_any(tf.abs(kernel) > LIMIT), np.nan, 0.0)
    return tf.cast(loops.mean_loss(losses), tf.float32) + bad


def make(optimizer=None, **options):
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="head")]
    )
    made = (optimizer or plain)(model)
    return loops.TrainStep(model, beyond, made, **{"on_nonfinite": "restore"} | options)


def plain(model):
    return K.SGD(1.0)


def grouped(model):
    return optim.GroupedOptimizer(
        K.SGD(4.0), optim.partition(model, {"all": optim.Group("*", lr_scale=0.25)})
    )


def of_keras(model):
    return K.SGD(1.0, clipvalue=1e9)  # which has no fused operation


def scaled(model):
    return K.LossScaleOptimizer(K.SGD(1.0), initial_scale=1.0, dynamic_growth_steps=10**6)


def rates(step):
    """Sets the rate absolutely, which would undo a cut of the rate that is set."""
    whole = 4.0 if isinstance(step.inner_optimizer, optim.GroupedOptimizer) else 1.0
    return keras.callbacks.LearningRateScheduler(lambda epoch: whole * RATES[epoch])


def data():
    return loops.Batches(X[:, None], Y[:, None], 2, shuffle=False)


def train(step, folder, *callbacks, epochs=EPOCHS, **options):
    checkpoint = loops.Checkpoint(folder, every_steps=EVERY, verbose=0)
    given = {"callbacks": [rates(step), *callbacks], "checkpoint": checkpoint} | options
    return loops.train(step, data(), epochs=epochs, **given)
