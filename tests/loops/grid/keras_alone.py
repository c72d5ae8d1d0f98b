"""What Keras does on two replicas where the grid's cells are right, in loops as its guide writes them.

Prints JSON: the name of each trap and "wrong", "mended" (this Keras gives the right number) or an error. Each
also takes the same step with ours, which must be right.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

import keras
import numpy as np
import tensorflow as tf

CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

from gradloop import loops  # noqa: E402

K, L = keras.optimizers, keras.layers
TWO = tf.distribute.MirroredStrategy(
    ["/cpu:0", "/cpu:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
)
X = np.array([[1.0], [3.0]], "float32")  # one example a replica
TRAPS: dict[str, Any] = {}


def trap(function):
    TRAPS[function.__name__.replace("_", " ")] = function
    return function


def line(**options):
    """y = w * x with w = 1, in the scope of both replicas."""
    with TWO.scope():
        layer = L.Dense(1, use_bias=False, kernel_initializer="ones", name="line", **options)
        return keras.Sequential([keras.Input((1,)), layer])


def kernel(model):
    return float(model.get_layer("line").kernel.numpy()[0, 0])


def mean_of_outputs(model, batch, training=True):
    return tf.reduce_mean(model(batch[0], training=training))


def by_keras(model, optimizer, penalties=False, x=X):
    """A step of the guide: the loss over the global batch size, `apply` in each replica."""
    with TWO.scope():
        optimizer.build(model.trainable_variables)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True)) / 2
            if penalties:
                loss += tf.add_n(model.losses)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    parts = TWO.experimental_distribute_values_from_function(
        lambda context: tf.constant(x[context.replica_id_in_sync_group][None])
    )
    tf.function(lambda: TWO.run(step, args=(parts,)))()


def made(optimizer, *arguments, **options):
    with TWO.scope():
        return optimizer(*arguments, **options)


def compare(keras_value, ours, right):
    assert abs(ours - right) <= 1e-6 * max(1, abs(right)), f"ours gives {ours}, right is {right}"
    return "mended" if abs(keras_value - right) <= 1e-6 * max(1, abs(right)) else "wrong"


@trap
def clips_before_it_sums():
    # The gradient is 2, the limit 0.5: the step is 0.5. Keras clips the halves 0.5 and 1.5, and moves by 1.
    found = []
    for train in (by_keras, lambda model, optimizer: loops.TrainStep(model, mean_of_outputs, optimizer)(X)):
        model = line()
        train(model, made(K.SGD, 1.0, clipnorm=0.5))
        found.append(kernel(model))
    return compare(*found, 0.5)


@trap
def counts_penalties_once_a_replica():
    found = []
    for train in (
        lambda model, optimizer: by_keras(model, optimizer, penalties=True),
        lambda model, optimizer: loops.TrainStep(model, mean_of_outputs, optimizer)(X),
    ):
        model = line(kernel_regularizer=keras.regularizers.L2(0.25))
        train(model, made(K.SGD, 1.0))
        found.append(kernel(model))
    return compare(*found, 1.0 - 2.0 - 2 * 0.25)


@trap
def looks_for_overflow_on_the_first_replica_alone():
    bad = np.array([[1.0], [np.inf]], "float32")
    found = []
    for train in (
        lambda model, optimizer: by_keras(model, optimizer, x=bad),
        lambda model, optimizer: loops.TrainStep(model, mean_of_outputs, optimizer)(bad),
    ):
        model = line()
        train(model, made(K.LossScaleOptimizer, K.SGD(1.0)))
        found.append(kernel(model))
    return compare(np.nan_to_num(found[0], posinf=9.0, neginf=-9.0, nan=9.0), found[1], 1.0)


@trap
def keeps_the_moving_statistics_of_the_first_replica():
    found = []
    for own in (False, True):
        with TWO.scope():
            norm = L.BatchNormalization(momentum=0.0, name="norm")
            model = keras.Sequential([keras.Input((1,)), norm, L.Dense(1, name="line")])
        if own:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loops.TrainStep(model, mean_of_outputs, made(K.SGD, 0.0))(X)
        else:
            by_keras(model, made(K.SGD, 0.0))
        found.append(float(norm.moving_mean.numpy()[0]))
    return compare(*found, 2.0)


@trap
def drops_the_same_units_on_every_replica():
    with TWO.scope():
        layer = L.Dropout(0.5)
    outputs = tf.function(lambda: TWO.run(lambda: layer(tf.ones((1, 64)), training=True)))()
    one, other = (part.numpy() for part in TWO.experimental_local_results(outputs))
    # Ours: the cell "dropout" of the grid.
    return "wrong" if np.array_equal(one, other) else "mended"


@trap
def cannot_accumulate():
    model = line()
    try:
        for _ in range(2):
            by_keras(model, made(K.SGD, 1.0, gradient_accumulation_steps=2))
        known = "mended"
    except Exception as error:
        assert "merge_call" in str(error), error
        known = "wrong"
    model = line()
    step = loops.TrainStep(model, mean_of_outputs, made(K.SGD, 1.0), accumulate=2)
    for value in (1.0, -1.0):
        step(X)
        assert kernel(model) == value
    return known


if __name__ == "__main__":
    results = {}
    for name, function in TRAPS.items():
        try:
            results[name] = function()
        except Exception:
            results[name] = traceback.format_exc(limit=-3)[-1500:]
    print(json.dumps(results))
