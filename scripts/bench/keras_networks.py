"""The two networks as Keras layers that end in logits, for Keras 3 and for tf-keras alike."""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from .case import Contender

Model: TypeAlias = Any  # of `keras` or of `tf_keras`


def build(keras: ModuleType, network: str) -> Model:
    """A built Sequential model without a final softmax.

    Args:
        keras: the module `keras` or `tf_keras`.
        network: `"softmax"` (784-10) or `"lenet5"`.

    Returns:
        The model; its loss is cross-entropy from logits.
    """
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
