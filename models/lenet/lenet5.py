"""LeNet-5 in the three ways Keras has of writing a network, built from one list of layers."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from ...optim.common.arguments import real_number, whole_number

IMAGE_SHAPE = (28, 28, 1)


def _layers(
    num_classes: int,
    *,
    dropout: float,
    batch_norm: bool,
    l1: float,
    l2: float,
    dtype: keras.DTypePolicy | None = None,
) -> list[keras.layers.Layer]:
    """The network as an ordered list of fresh layers: the one place that says what LeNet-5 is."""
    num_classes = whole_number("num_classes", num_classes, at_least=2)
    dropout = real_number("dropout", dropout, at_least=0, below=1)
    l1, l2 = real_number("l1", l1, at_least=0), real_number("l2", l2, at_least=0)
    penalty = keras.regularizers.L1L2(l1, l2) if l1 or l2 else None
    policy = dtype if dtype is not None else keras.config.dtype_policy()
    # Half precision has too few digits for the logarithm of a small probability.
    low_precision = keras.dtype_policies.get(policy).compute_dtype in ("float16", "bfloat16")
    output_policy = "float32" if low_precision else policy
    layers: list[keras.layers.Layer] = []

    def block(index: int, cls: type[keras.layers.Layer], **options: Any) -> None:
        layer = cls(
            activation=None if batch_norm else "relu", kernel_regularizer=penalty, dtype=policy, **options
        )
        layers.append(layer)
        if batch_norm:
            layers.append(keras.layers.BatchNormalization(name=f"bn{index}", dtype=policy))
            layers.append(keras.layers.ReLU(name=f"relu{index}", dtype=policy))

    def pool(name: str) -> None:
        layers.append(keras.layers.MaxPooling2D(2, data_format="channels_last", name=name, dtype=policy))

    def drop(name: str) -> None:
        if dropout:
            layers.append(keras.layers.Dropout(dropout, name=name, dtype=policy))

    conv = {"kernel_size": 5, "data_format": "channels_last"}
    block(1, keras.layers.Conv2D, filters=6, padding="same", name="conv1", **conv)
    pool("pool1")
    block(2, keras.layers.Conv2D, filters=16, padding="valid", name="conv2", **conv)
    pool("pool2")
    layers.append(keras.layers.Flatten("channels_last", name="flatten", dtype=policy))
    block(3, keras.layers.Dense, units=120, name="fc1")
    drop("drop1")
    block(4, keras.layers.Dense, units=84, name="fc2")
    drop("drop2")
    layers.append(
        keras.layers.Dense(
            num_classes,
            activation="softmax",
            kernel_regularizer=penalty,
            name="fc3",  # `output` is a property of every Keras layer, so no attribute can bear it
            dtype=output_policy,
        )
    )
    return layers


@keras.saving.register_keras_serializable(package="gradloop")
class LeNet5(keras.Model):
    """LeNet-5 for 28x28 grey images, as a subclassed model with a named attribute per layer.

    `conv1` (6 filters of 5x5, zero padding) and `pool1`, `conv2` (16 of 5x5) and `pool2`, `flatten`, `fc1`
    (120 units), `fc2` (84), `fc3` (one for each class). With 10 classes it has 61,706 parameters.

    It differs from the paper as is usual today: ReLU instead of tanh, max pooling instead of trainable
    averaging, every feature map of `conv2` connected to every one of `conv1`, softmax instead of radial basis
    functions.

    The input shape is fixed, so the model is built by its constructor. Under `mixed_float16` and
    `mixed_bfloat16` the last layer stays in float32, as half precision would round small probabilities
    to 0. `.keras` files load without `custom_objects` wherever this module is imported.

    Called with float images (batch, 28, 28, 1), pixels from 0 to 1, it returns probabilities (batch,
    num_classes), each row summing to 1. With `training=True` dropout and batch normalisation act.

    Args:
        num_classes: how many classes, at least 2.
        dropout: share of units dropped after `fc1` and `fc2` (`drop1`, `drop2`) in training, in [0, 1).
        batch_norm: whether to normalise before the activations of `conv1`, `conv2`, `fc1` and `fc2` (`bn1` to
            `bn4`).
        l1: weight of the sum of absolute kernel values in `model.losses`.
        l2: weight of the sum of squared kernel values in `model.losses`.
        name: name of the model.
        **kwargs: `dtype` and `trainable`, as for every Keras layer.

    Raises:
        ValueError: an option out of its range, or inputs of another shape or an integer dtype.
        TypeError: an option of another type.

    Example:
        >>> import numpy as np
        >>> from gradloop import models
        >>> model = models.LeNet5(num_classes=10, dropout=0.2)
        >>> model.count_params()
        61706
        >>> model(np.zeros((3, 28, 28, 1), "float32")).shape
        TensorShape([3, 10])

    Reference: LeCun et al. 1998, "Gradient-based learning applied to document recognition".
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
        l1: float = 0.0,
        l2: float = 0.0,
        name: str | None = "lenet5",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        layers = _layers(
            num_classes, dropout=dropout, batch_norm=batch_norm, l1=l1, l2=l2, dtype=self.dtype_policy
        )
        for layer in layers:
            setattr(self, layer.name, layer)
        self._options = {
            "num_classes": int(num_classes),
            "dropout": float(dropout),
            "batch_norm": bool(batch_norm),
            "l1": float(l1),
            "l2": float(l2),
        }
        self.build((None, *IMAGE_SHAPE))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the variables, layer by layer. The constructor calls it."""
        shape = input_shape
        for layer in self.layers:
            if not layer.built:
                layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Class probabilities (batch, num_classes) of images (batch, 28, 28, 1)."""
        outputs = _checked_images(inputs)
        for layer in self.layers:  # in the order of assignment; Keras passes `training` on
            outputs = layer(outputs)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for `from_config`."""
        return {**super().get_config(), **self._options}


def lenet5_sequential(
    num_classes: int = 10, *, dropout: float = 0.0, batch_norm: bool = False, l1: float = 0.0, l2: float = 0.0
) -> keras.Sequential:
    """LeNet-5 as `keras.Sequential`, with the layers, layer names, options and errors of `LeNet5`.

    Args:
        num_classes, dropout, batch_norm, l1, l2: as for `LeNet5`.

    Returns:
        A built model from (batch, 28, 28, 1) to probabilities (batch, num_classes).

    Example:
        >>> from gradloop import models
        >>> [layer.name for layer in models.lenet5_sequential().layers]
        ['conv1', 'pool1', 'conv2', 'pool2', 'flatten', 'fc1', 'fc2', 'fc3']
    """
    layers = _layers(num_classes, dropout=dropout, batch_norm=batch_norm, l1=l1, l2=l2)
    return keras.Sequential([keras.Input(IMAGE_SHAPE), *layers], name="lenet5")


def lenet5_functional(
    num_classes: int = 10, *, dropout: float = 0.0, batch_norm: bool = False, l1: float = 0.0, l2: float = 0.0
) -> keras.Model:
    """LeNet-5 as a Functional model, with the layers, layer names, options and errors of `LeNet5`.

    Args:
        num_classes, dropout, batch_norm, l1, l2: as for `LeNet5`.

    Returns:
        A built model from (batch, 28, 28, 1) to probabilities (batch, num_classes).

    Example:
        >>> from gradloop import models
        >>> models.lenet5_functional(num_classes=4).output_shape
        (None, 4)
    """
    inputs = keras.Input(IMAGE_SHAPE)
    outputs = inputs
    for layer in _layers(num_classes, dropout=dropout, batch_norm=batch_norm, l1=l1, l2=l2):
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name="lenet5")


def _checked_images(inputs: tf.Tensor) -> tf.Tensor:
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
