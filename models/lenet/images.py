"""The images that LeNet-5 reads, and errors for others."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

IMAGE_SHAPE = (28, 28, 1)


def checked_images(inputs: tf.Tensor) -> tf.Tensor:
    """`inputs` if they are float images (batch, 28, 28, 1); else an error that says what helps."""
    if isinstance(inputs, tf.Tensor) and inputs.shape.rank is None:
        return tf.ensure_shape(inputs, (None, *IMAGE_SHAPE))  # checked when the graph runs
    shape = tuple(inputs.shape)
    fits = len(shape) == 4 and all(got in (None, wanted) for got, wanted in zip(shape[1:], IMAGE_SHAPE))
    if not fits:
        if shape == IMAGE_SHAPE:
            help_text = "one image needs a batch axis: `x[None]`"
        elif shape[1:] == IMAGE_SHAPE[:2]:
            help_text = "add the channel axis: `x[..., None]`"
        elif shape[1:] == (math.prod(IMAGE_SHAPE),):
            help_text = "unflatten the rows: `x.reshape(-1, 28, 28, 1)`"
        elif shape[1:] == (*IMAGE_SHAPE[:2], 3):
            help_text = "make colour grey: `tf.image.rgb_to_grayscale(x)`"
        elif len(shape) == 4 and shape[-1] == 1:
            help_text = "resize them: `tf.image.resize(x, (28, 28))`"
        else:
            help_text = "`x.reshape(-1, 28, 28, 1)` where each example has 784 values"
        raise ValueError(f"LeNet-5 reads `inputs` of shape (batch, 28, 28, 1); got {shape}: {help_text}.")
    if not keras.backend.is_float_dtype(inputs.dtype):
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        raise ValueError(
            "LeNet-5 reads `inputs` of a float dtype, pixels from 0 to 1; got "
            f'{dtype}: `x.astype("float32") / 255` for bytes.'
        )
    return inputs
