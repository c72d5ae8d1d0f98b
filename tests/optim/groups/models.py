"""Small models that tests of plans share."""

import keras

L = keras.layers


def net() -> keras.Sequential:
    """A convolution, a BatchNorm and a Dense layer, of six variables."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(2, 3, name="conv1"),
            L.BatchNormalization(name="bn"),
            L.Flatten(),
            L.Dense(2, name="fc"),
        ]
    )


def sequential(count: int = 4) -> keras.Sequential:
    """Dense layers `fc0`, `fc1`, ..."""
    layers = [L.Dense(3, name=f"fc{number}") for number in range(count)]
    return keras.Sequential([keras.Input((3,)), *layers])
