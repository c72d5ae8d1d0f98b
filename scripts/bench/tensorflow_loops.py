"""Two loops that a TensorFlow user writes by hand: a call per step, and one loop on the device."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from . import keras_networks
from .case import LEARNING_RATE, SHAPES, Case, Contender


class PerStep(keras_networks.KerasContender):
    """The textbook custom loop: `for x, y in dataset: step(x, y)` with `step` a `tf.function`."""

    def __init__(self, case: Case, images: np.ndarray, labels: np.ndarray) -> None:
        self.keras = keras
        self.model = model = keras_networks.build(keras, case.network)
        self.optimizer = optimizer = keras.optimizers.SGD(LEARNING_RATE)
        optimizer.build(model.trainable_variables)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.iterator = iter(keras_networks.batches(images, labels, case.batch_size))

        def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            return loss

        self.step = tf.function(step)

    def block(self, steps: int) -> None:
        for x, y in itertools.islice(self.iterator, steps):
            loss = self.step(x, y)
        loss.numpy()


class Bare(Contender):
    """No Keras, no metric, no check, no callback: the floor under any loop of these ops."""

    def __init__(self, case: Case, images: np.ndarray, labels: np.ndarray) -> None:
        glorot = tf.keras.initializers.GlorotUniform(seed=0)
        initial = [value for shape in SHAPES[case.network] for value in (glorot(shape), tf.zeros(shape[-1:]))]
        self.variables = list(map(tf.Variable, initial))
        self.logits = _softmax if case.network == "softmax" else _lenet5
        self.images, self.labels = tf.constant(images), tf.constant(labels)
        self.run = self._make_run(case.batch_size)

    def _make_run(self, batch_size: int) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        variables, logits_of = self.variables, self.logits
        rate = tf.constant(LEARNING_RATE)

        def run(images: tf.Tensor, labels: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
            order = tf.random.shuffle(tf.range(tf.shape(labels)[0]))
            loss = tf.constant(0.0)
            for i in tf.range(steps):
                index = tf.slice(order, [i * batch_size], [batch_size])
                x, y = tf.gather(images, index), tf.gather(labels, index)
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(variables)
                    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                        labels=y, logits=logits_of(x, variables)
                    )
                    loss = tf.reduce_mean(losses)
                for variable, gradient in zip(variables, tape.gradient(loss, variables)):
                    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)
            return loss

        return tf.function(run)

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(variable.shape)) for variable in self.variables)

    def block(self, steps: int) -> None:
        self.run(self.images, self.labels, tf.constant(steps)).numpy()

    def loss(self, images: np.ndarray, labels: np.ndarray) -> float:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=self.logits(tf.constant(images), self.variables)
        )
        return float(losses.numpy().mean())


def _softmax(x: tf.Tensor, variables: list[tf.Variable]) -> tf.Tensor:
    weights, bias = variables
    return tf.nn.bias_add(tf.matmul(x, weights), bias)


def _lenet5(x: tf.Tensor, variables: list[tf.Variable]) -> tf.Tensor:
    c1, b1, c2, b2, w3, b3, w4, b4, w5, b5 = variables
    x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, c1, 1, "SAME"), b1))
    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, c2, 1, "VALID"), b2))
    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = tf.reshape(x, [-1, 400])
    x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, w3), b3))
    x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, w4), b4))
    return tf.nn.bias_add(tf.matmul(x, w5), b5)


def build(name: str, case: Case, images: np.ndarray, labels: np.ndarray) -> Contender:
    """`"per-step"` or `"bare"`."""
    return (PerStep if name == "per-step" else Bare)(case, images, labels)
