"""The two networks as Keras layers that end in logits, for Keras 3 and for tf-keras alike."""

from __future__ import annotations

from typing import Any


def build(keras: Any, network: str) -> Any:
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


def loss(keras: Any, model: Any, images: Any, labels: Any) -> float:
    """Mean cross-entropy of the model on the examples."""
    per_example = keras.losses.sparse_categorical_crossentropy(
        labels, model(images, training=False), from_logits=True
    )
    return float(per_example.numpy().mean())
