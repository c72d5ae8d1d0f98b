"""JAX: the whole block in one compiled `lax.scan`, data on the device."""

from __future__ import annotations

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import LEARNING_RATE, SHAPES, Case, Contender

# Weights and biases of each layer, from the first to the last.
Layers: TypeAlias = list[tuple[jax.Array, jax.Array]]


def _initial(network: str) -> Layers:
    rng = np.random.default_rng(0)
    layers = []
    for shape in SHAPES[network]:
        fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
        limit = math.sqrt(6 / (fan_in + fan_out))
        weights = rng.uniform(-limit, limit, shape).astype(np.float32)
        layers.append((jnp.asarray(weights), jnp.zeros(shape[-1])))
    return layers


def _convolve(x: jax.Array, weights: jax.Array, bias: jax.Array, padding: str) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(x, weights, (1, 1), padding, dimension_numbers=layout) + bias
    window = (1, 2, 2, 1)
    return lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, window, window, "VALID")


def _logits(layers: Layers, x: jax.Array) -> jax.Array:
    *hidden, (weights, bias) = layers
    if hidden:
        (c1, b1), (c2, b2), *hidden = hidden
        x = _convolve(_convolve(x, c1, b1, "SAME"), c2, b2, "VALID").reshape(-1, 400)
    for inner, inner_bias in hidden:
        x = jax.nn.relu(x @ inner + inner_bias)
    return x @ weights + bias


def _loss(layers: Layers, x: jax.Array, y: jax.Array) -> jax.Array:
    chances = jax.nn.log_softmax(_logits(layers, x))
    return -jnp.take_along_axis(chances, y[:, None], axis=1).mean()


def _scan(
    layers: Layers, images: jax.Array, labels: jax.Array, index: jax.Array
) -> tuple[Layers, jax.Array]:
    def step(layers: Layers, rows: jax.Array) -> tuple[Layers, jax.Array]:
        loss, gradients = jax.value_and_grad(_loss)(layers, images[rows], labels[rows])
        return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, layers, gradients), loss

    return lax.scan(step, layers, index)


_run = jax.jit(_scan)


class Jax(Contender):
    """Plain JAX, no library on top; a new block length compiles anew, in warm-up."""

    def __init__(self, case: Case, images: np.ndarray, labels: np.ndarray) -> None:
        self.batch_size = case.batch_size
        self.images, self.labels = jnp.asarray(images), jnp.asarray(labels)
        self.layers = _initial(case.network)
        self.rng = np.random.default_rng(0)

    @property
    def parameters(self) -> int:
        return sum(int(leaf.size) for leaf in jax.tree.leaves(self.layers))

    def block(self, steps: int) -> None:
        order = self.rng.permutation(len(self.labels))[: steps * self.batch_size]
        index = jnp.asarray(order.reshape(steps, self.batch_size))
        self.layers, losses = _run(self.layers, self.images, self.labels, index)
        losses.block_until_ready()

    def loss(self, images: np.ndarray, labels: np.ndarray) -> float:
        return float(_loss(self.layers, jnp.asarray(images), jnp.asarray(labels)))


def build(name: str, case: Case, images: np.ndarray, labels: np.ndarray) -> Contender:
    """The one JAX contender."""
    return Jax(case, images, labels)
