"""What `docs/coming_from/pytorch.md` says of formulas: PyTorch's, as its source has them, beside Keras'."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tolerance import rounding

GRADIENTS = np.random.default_rng(0).normal(size=(6, 4))
START = np.array([1.0, -2.0, 0.5, 3.0])
RATE = 0.125


def by_keras(optimizer: keras.optimizers.Optimizer, rates: list[float], l2: float = 0.0) -> np.ndarray:
    """The weights after a step at each rate; `l2` as a regularizer gives it."""
    weight = keras.Variable(START)
    optimizer.build([weight])
    for gradient, rate in zip(GRADIENTS, rates):
        optimizer.learning_rate = rate
        with tf.GradientTape() as tape:
            penalty = keras.regularizers.L2(l2)(weight) if l2 else tf.reduce_sum(weight) * 0.0
        optimizer.apply([gradient + tape.gradient(penalty, weight.value)], [weight])
    return weight.numpy()


def torch_sgd(rates: list[float], momentum: float, decay: float = 0.0) -> np.ndarray:
    weight, velocity = START.copy(), np.zeros(4)
    for gradient, rate in zip(GRADIENTS, rates):
        velocity = momentum * velocity + gradient + decay * weight
        weight = weight - rate * velocity
    return weight


def torch_adamw(rates: list[float], eps: float, decay: float) -> np.ndarray:
    weight, mean, square = START.copy(), np.zeros(4), np.zeros(4)
    for step, (gradient, rate) in enumerate(zip(GRADIENTS, rates), 1):
        weight = weight * (1 - rate * decay)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        root = np.sqrt(square) / np.sqrt(1 - 0.999**step) + eps
        weight = weight - rate / (1 - 0.9**step) * mean / root
    return weight


CONSTANT, FALLING = [RATE] * 6, [RATE] * 3 + [RATE / 8] * 3
SGD, AdamW = keras.optimizers.SGD, keras.optimizers.AdamW


@pytest.mark.numbers
@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        (lambda: torch_sgd(CONSTANT, 0.9), lambda: by_keras(SGD(RATE, momentum=0.9), CONSTANT), True),
        (lambda: torch_sgd(FALLING, 0.9), lambda: by_keras(SGD(RATE, momentum=0.9), FALLING), False),
        (
            lambda: torch_sgd(CONSTANT, 0.9, 0.25),
            lambda: by_keras(SGD(RATE, momentum=0.9), CONSTANT, l2=0.125),
            True,
        ),
        (
            lambda: torch_sgd(CONSTANT, 0.9, 0.25),
            lambda: by_keras(SGD(RATE, momentum=0.9, weight_decay=0.25), CONSTANT),
            False,
        ),
        (
            lambda: torch_adamw(FALLING, 0.0, 0.25),
            lambda: by_keras(AdamW(RATE, epsilon=0.0, weight_decay=0.25), FALLING),
            True,
        ),
        (
            lambda: torch_adamw(CONSTANT, 0.01, 0.25),
            lambda: by_keras(AdamW(RATE, epsilon=0.01, weight_decay=0.25), CONSTANT),
            False,
        ),
    ],
    ids=["momentum", "falling rate", "L2", "decay is not L2", "AdamW", "epsilon"],
)
def test_optimizers(theirs: Callable[[], np.ndarray], ours: Callable[[], np.ndarray], same: bool) -> None:
    assert np.allclose(theirs(), ours(), rtol=rounding(sums=64)) == same


@pytest.mark.numbers
def test_epsilon_by_root() -> None:
    """Keras' `epsilon` is PyTorch's `eps` times the root of the correction: here, after one step."""
    root = np.sqrt(1 - 0.999)
    ours = by_keras(AdamW(RATE, epsilon=0.01 * root, weight_decay=0.25), [RATE])
    assert np.allclose(torch_adamw([RATE], 0.01, 0.25), ours, rtol=rounding(sums=64))


def test_defaults() -> None:
    assert AdamW().weight_decay == 0.004
    assert keras.optimizers.Adam().epsilon == 1e-7
    rms = keras.optimizers.RMSprop()
    assert (rms.rho, float(rms.learning_rate), rms.epsilon) == (0.9, np.float32(0.001), 1e-7)
    norm = keras.layers.BatchNormalization()
    assert (norm.momentum, norm.epsilon) == (0.99, 1e-3)


def test_batch_norm_keeps_the_biased_variance() -> None:
    norm = keras.layers.BatchNormalization(momentum=0.0)
    x = np.array([[1.0], [3.0]], "float32")
    norm(x, training=True)
    assert norm.moving_variance.numpy() == [x.var()]  # PyTorch's running variance would be 2


def test_weighted_cross_entropy_divides_by_the_number() -> None:
    y, out = np.array([0, 1]), np.array([[0.5, 0.5], [0.25, 0.75]], "float32")
    loss = keras.losses.SparseCategoricalCrossentropy()(y, out, np.array([3.0, 1.0]))
    assert float(loss) == pytest.approx(-(3 * np.log(0.5) + np.log(0.75)) / 2, rel=rounding())
