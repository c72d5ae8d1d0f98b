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

    def __init__(self, case: Case, images: np.ndarray, labels: np.ndarray) -> None:
        self.keras = tf_keras
        self.model = keras_networks.build(tf_keras, case.network)
        data = keras_networks.batches(images, labels, case.batch_size)
        self.trainer = _Trainer(self.model, data)

    def block(self, steps: int) -> None:
        for done in range(0, steps, STEPS_PER_CALL):
            self.trainer.train(tf.constant(min(STEPS_PER_CALL, steps - done)))
        # A read of a weight waits for the last update.
        self.model.trainable_variables[-1].numpy()


def build(name: str, case: Case, images: np.ndarray, labels: np.ndarray) -> Contender:
    """The one contender of Orbit's."""
    return Orbit(case, images, labels)
