"""Errors for labels and targets that do not fit the network's outputs, before they reach a kernel.

On a label out of range TensorFlow fails deep inside a CPU kernel and gives NaN on a GPU; Keras rounds a float
label down in silence, and stretches targets of another shape over the outputs.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Tensors
from ..support.tensorflow_private import label_out_of_range

# Keras' losses whose targets have the shape of the predictions.
_ELEMENTWISE = {
    getattr(keras.losses, name)
    for name in (
        "BinaryCrossentropy BinaryFocalCrossentropy CategoricalCrossentropy CategoricalFocalCrossentropy "
        "CategoricalHinge CosineSimilarity Dice Hinge Huber KLDivergence LogCosh MeanAbsoluteError Poisson "
        "MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError SquaredHinge Tversky"
    ).split()
}


class LabelError(ValueError):
    """The labels do not fit the loss or the number of classes.

    A class is out of range, labels are floats or one-hot where the loss takes integer classes, or targets
    have another shape than the outputs. The weights are those from before the step.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
        >>> step = loops.TrainStep(model, "sparse_categorical_crossentropy", "sgd")
        >>> try:
        ...     values = step(np.ones((2, 4)), np.array([1, 3]))
        ... except loops.LabelError as error:
        ...     print(error)
        `y` holds the label 3, but the network has 3 outputs, for ... 0 to 2. ...
    """


def takes_class_indices(loss: keras.losses.Loss) -> bool:
    """Whether a loss wants integer class indices, any of which is a class (no ignored class)."""
    sparse = keras.losses.SparseCategoricalCrossentropy
    return isinstance(loss, sparse) and getattr(loss, "ignore_class", None) is None


def check_label_spec(labels: tf.Tensor, predictions: tf.Tensor) -> None:
    """Raises LabelError for float or one-hot labels, while tracing.

    Args:
        labels: integer tensor, (batch, ...) or (batch, ..., 1).
        predictions: (batch, ..., classes).
    """
    classes = predictions.shape[-1]
    rank = labels.shape.rank
    if rank is not None and rank == predictions.shape.rank and labels.shape[-1] not in (1, None):
        raise LabelError(
            f"`y` has shape {_shape(labels)}, which looks one-hot, where this loss takes integer classes. "
            "Pass `y.argmax(-1)`, or use the loss 'categorical_crossentropy'."
        )
    if not labels.dtype.is_integer:
        raise LabelError(
            f"`y` is {labels.dtype.name} where this loss takes integer classes 0 to {classes - 1}. "
            "Pass `y.astype('int32')` if the values are whole numbers."
        )


def check_target_shape(loss: keras.losses.Loss, targets: Tensors, predictions: Tensors) -> None:
    """Raises LabelError where a loss compares targets and predictions one by one and their shapes differ.

    A missing or an additional last dimension of 1 is left to Keras, which squeezes it. Targets of length 1
    along an axis between the first and the last are for all positions there.
    """
    if type(loss) not in _ELEMENTWISE or not (tf.is_tensor(targets) and tf.is_tensor(predictions)):
        return
    if targets.shape.rank is None or predictions.shape.rank is None:
        return
    ours, theirs = targets.shape.as_list(), predictions.shape.as_list()
    if len(ours) == len(theirs) + 1 and ours[-1] == 1:
        ours.pop()
    elif len(theirs) == len(ours) + 1 and theirs[-1] == 1:
        theirs.pop()
    inner, pairs = range(1, len(ours) - 1), enumerate(zip(ours, theirs))
    fit = all(one in (None, two) or two is None or (one == 1 and axis in inner) for axis, (one, two) in pairs)
    if len(ours) != len(theirs) or not fit:
        way_out = "change one of the two, `y` or the last layer"
        column = len(ours) < len(theirs) or ours[-1:] == [1]
        if targets.dtype.is_integer and column and predictions.shape[-1:] != [1]:
            way_out = f"if `y` holds classes, use 'sparse_categorical_crossentropy'; otherwise {way_out}"
        raise LabelError(
            f"`y` has shape {_shape(targets)} and the network's outputs have {_shape(predictions)}, which "
            f"this loss compares one by one: {way_out}."
        )


def check_label_values(labels: Array | tf.Tensor, classes: int) -> None:
    """Raises LabelError unless every integer label is in 0 to `classes - 1`."""
    values = np.asarray(labels)
    if values.size == 0 or values.dtype.kind not in "iu":
        return
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        mend = " from 0 on" if lowest < 0 else f", or give the network {highest + 1} outputs"
        raise LabelError(
            f"`y` holds the label {wrong}, but the network has {classes} outputs, for the labels 0 to "
            f"{classes - 1}. Renumber the labels{mend}."
        )


def label_error(error: Exception, classes: int | None) -> LabelError | None:
    """Returns a `LabelError` for TensorFlow's own error about a label out of range; None for any other."""
    label = label_out_of_range(error)
    if label is None:
        return None
    # With a user's loss function, the number of classes is not known.
    outputs = "no output for it" if classes is None else f"{classes} outputs, for 0 to {classes - 1}"
    return LabelError(
        f"`y` holds the label {label}, but the network has {outputs}. The step was not made. "
        "Renumber the labels, or give the network more outputs."
    )


def on_host(value: Tensors) -> bool:
    """Whether reading `value` costs no transfer from an accelerator."""
    if isinstance(value, np.ndarray):
        return True
    return tf.is_tensor(value) and hasattr(value, "numpy") and "CPU" in (value.device or "")


def _shape(labels: tf.Tensor) -> str:
    return str(tuple(labels.shape)).replace("None", "batch")
