"""Converts the preprocessing of a network of keras.applications to layers of the model."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from ...optim.common.types import Array

# Takes and returns images, (batch, height, width, 3).
Preprocess = Callable[[Array], Array]


def preprocess_pixels(pixels: keras.KerasTensor, preprocess: Preprocess) -> keras.KerasTensor:
    """Applies a `preprocess_input` function of keras.applications as layers that are saved with the model.

    Every such function scales and shifts each channel, and some reverse the channels first. Its numbers are
    found by calling it, so no table of Keras is repeated here. `pixels` are symbolic RGB images, (batch,
    height, width, 3), 0 to 255; they are returned as they are if there is nothing to do.
    """
    order, scale, offset = affine(preprocess)
    if order == [2, 1, 0]:
        pixels = keras.ops.flip(pixels, axis=-1)
    if is_identity(preprocess):
        return pixels
    if np.ptp(scale) == 0 and np.ptp(offset) == 0:
        return keras.layers.Rescaling(float(scale[0]), float(offset[0]), name="preprocessing")(pixels)
    normalization = keras.layers.Normalization(
        mean=(-offset / scale).tolist(), variance=(1 / scale**2).tolist(), name="preprocessing"
    )
    return normalization(pixels)


def is_identity(preprocess: Preprocess) -> bool:
    """Whether a `preprocess_input` function returns its input unchanged."""
    order, scale, offset = affine(preprocess)
    return order == [0, 1, 2] and np.allclose(scale, 1.0) and np.allclose(offset, 0.0)


def affine(preprocess: Preprocess) -> tuple[list[int], Array, Array]:
    """Returns `(order, scale, offset)`: output channel c is `scale[c] * input[order[c]] + offset[c]`."""
    black = np.zeros((1, 1, 1, 3))
    offset = np.array(preprocess(black.copy()), "float64")[0, 0, 0]
    primaries = 255.0 * np.eye(3)[:, None, None]
    slopes = (np.array(preprocess(primaries.copy()), "float64")[:, 0, 0] - offset) / 255.0
    order = np.abs(slopes).argmax(axis=0)
    # Rounding errors beyond the twelfth digit would make equal channels look different.
    scale = np.round(slopes[order, range(3)], 12)
    return order.tolist(), scale, np.round(offset, 12)
