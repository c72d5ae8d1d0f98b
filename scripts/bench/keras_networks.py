"""The two networks as Keras layers that end in logits, for Keras 3 and for tf-keras alike, and their data."""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from .case import Contender

Model: TypeAlias = Any  # of `keras` or of `tf_keras`
SHUFFLE_BUFFER = 10_000


def batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """An endless shuffled `tf.data` pipeline over arrays, as TensorFlow's tutorials write it."""
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(SHUFFLE_BUFFER, seed=0)
    return data.repeat().batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def build(keras: ModuleType, network: str) -> Model:
    """A built Sequential model of `keras` or `tf_keras` without a final softmax."""
    layers = keras.layers
    if network == "softmax":
        return keras.Sequential([keras.Input((784,)), layers.Dense(10)])
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10),
        ]
    )


class KerasContender(Contender):
    """A contender whose network is `build`'s; a subclass sets these two."""

    keras: ModuleType
    model: Model

    @property
    def parameters(self) -> int:
        return int(self.model.count_params())

    def loss(self, images: np.ndarray, labels: np.ndarray) -> float:
        per_example = self.keras.losses.sparse_categorical_crossentropy(
            labels, self.model(images, training=False), from_logits=True
        )
        return float(per_example.numpy().mean())
