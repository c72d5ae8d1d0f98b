"""Orbit, the training-loop library of TensorFlow's model garden, on the Keras it is written for.

`orbit` comes in the package tf-models-official and works without that package's other
dependencies: TensorFlow, tf-keras and absl (which TensorFlow brings) are enough.
"""

from __future__ import annotations

import numpy as np
import orbit
import tensorflow as tf
import tf_keras

from . import keras_networks
from .case import LEARNING_RATE, STEPS_PER_CALL, Case, Contender


class _Trainer(orbit.StandardTrainer):
    def __init__(self, model: keras_networks.Model, data: tf.data.Dataset) -> None:
        super().__init__(data)
        self.model = model
        self.optimizer = tf_keras.optimizers.SGD(LEARNING_RATE)
        self.optimizer.build(model.trainable_variables)
        self.loss_of = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def train_step(self, iterator: tf.data.Iterator) -> None:
        x, y = next(iterator)
        with tf.GradientTape() as tape:
            loss = self.loss_of(y, self.model(x, training=True))
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))


class Orbit(keras_networks.KerasContender):
    """`StandardTrainer.train` called once per loop, without the `Controller` and its log lines."""

    def __init__(
        self, case: Case, images: np.ndarray, labels: np.ndarray, steps_per_loop: int | None
    ) -> None:
        self.keras = tf_keras
        self.model = keras_networks.build(tf_keras, case.network)
        data = keras_networks.batches(images, labels, case.batch_size)
        self.trainer = _Trainer(self.model, data)
        self.steps_per_loop = steps_per_loop

    def block(self, steps: int) -> None:
        left = steps
        while left:
            now = min(left, self.steps_per_loop or left)
            self.trainer.train(tf.constant(now))
            left -= now
        # A read of a weight waits for the last update.
        self.model.trainable_variables[-1].numpy()


def build(name: str, case: Case, images: np.ndarray, labels: np.ndarray) -> Contender:
    """`"orbit"` (50 steps a loop) or `"orbit-epoch"` (the block in one loop)."""
    return Orbit(case, images, labels, STEPS_PER_CALL if name == "orbit" else None)
