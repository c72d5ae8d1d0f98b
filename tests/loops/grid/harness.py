"""What the cells of the grid have in common: data, a network, and a run on one device or on replicas."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, optim

# Replicas add in another order than one device, and kernels for fewer examples are others: in float64, what
# rounding there is stays far below every tolerance after 100 steps, on any processor.
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")

K, L = keras.optimizers, keras.layers
RNG = np.random.default_rng(0)
# 41 examples in batches of 16: two whole ones and a short one of 9.
X = RNG.standard_normal((41, 6)).astype("float32")
Y = RNG.integers(0, 3, 41)
WEIGHT = RNG.random(41).astype("float32")
WORDS = RNG.integers(0, 5, (41, 4))
IMAGES = RNG.standard_normal((41, 6, 6, 1)).astype("float32")
DIGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CELLS: dict[str, Any] = {}
# Those that are worth running on several numbers of replicas: what is sharded, and what is summed.
PER_REPLICA_COUNT: list[str] = []
# Other instances of what a cell shows, for runs of all cells.
FURTHER: list[str] = []


def cell(function):
    CELLS[name_of(function)] = function
    return function


def per_replica_count(function):
    PER_REPLICA_COUNT.append(name_of(function))
    return cell(function)


def further(function):
    FURTHER.append(name_of(function))
    return cell(function)


def name_of(function):
    return function.__name__.replace("_", " ")


@contextlib.contextmanager
def policy(name: str) -> Iterator[None]:
    """Layers made within have this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    yield
    keras.config.set_dtype_policy(before)


def mirrored(replicas):
    return tf.distribute.MirroredStrategy(
        [f"/cpu:{index}" for index in range(replicas)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def dense(**options):
    return keras.Sequential(
        [keras.Input((6,)), L.Dense(8, "tanh", name="first", **options), L.Dense(3, name="last", **options)]
    )


def run(
    strategy, make=dense, optimizer=lambda model: K.SGD(0.1), *, x=X, y=Y, weight=None, loss=DIGITS, batch=16,
    epochs=34, metrics=(), callbacks=list, between=None, evaluated=False, transform=None, **options,
):  # fmt: skip
    """Trains about 100 steps; returns everything that is to be the same everywhere.

    Metrics, and an evaluation after each epoch, are for the cells that test them: each is one more trace for
    every replica.
    """
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else tf.name_scope(""):
        model = make()
        made = [metric() if callable(metric) else metric for metric in metrics]
        step = loops.TrainStep(model, loss, optimizer(model), metrics=made, **options)
    data = loops.Batches(x, y, batch, sample_weight=weight, transform=transform)
    test = loops.Batches(x, y, 9, shuffle=False) if evaluated else None
    history = loops.train(step, data, epochs=epochs, validation=test, callbacks=callbacks()).history
    if between is None and not callbacks():
        assert step.traces == 1, f"{step.traces} traces"
    elif between is not None:
        between(step)
        more = loops.train(step, data, epochs=epochs, validation=test).history
        history = {name: values + more[name] for name, values in history.items()}
    weights = {name: v.numpy() for name, v in optim.named_variables(model).items()}
    return {**weights, **{f"logged {name}": np.array(values) for name, values in history.items()}}


def one_step(step, x, y):
    """One step on the examples in their order; `step(x, y)` is not for several workers."""
    return step.run(iter(loops.Batches(x, y, len(x), shuffle=False)), 1)["loss"][0]


def same(one, other, tolerance=1e-6, least=1e-3):
    """Each array to the tolerance, relative to its largest entry or to `least`."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if np.issubdtype(value.dtype, np.floating):
            limit = tolerance * max(float(np.abs(value).max()), least)
            difference = float(np.abs(value - other[name]).max())
            assert difference <= limit, f"{name}: {difference:.1e} apart, {limit:.1e} allowed"


def equal(strategy, tolerance=1e-6, least=0.1, **options):
    # The share of each replica in the loss is a float32, which is right to the seventh digit of a gradient; a
    # bias is the sum of 100 of them, however small it ends.
    same(run(None, **options), run(strategy, **options), tolerance, least)
