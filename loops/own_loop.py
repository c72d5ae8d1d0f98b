"""Parts for a training loop of one's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import keras
import tensorflow as tf

from .nonfinite import raises_nonfinite

F = TypeVar("F", bound=Callable[..., Any])


def replicated(step: F) -> F:
    """Decorator: runs a step of your own as one TensorFlow function.

    The step is traced once for each signature, and a `NonFiniteError` of an `Update` in it arrives as one.

    Args:
        step: function of tensors, made of TensorFlow operations; returns a nest of tensors.

    Returns:
        The function; its return values are those of `step`.

    Example:
        >>> import keras, tensorflow as tf
        >>> from gradloop import loops
        >>> weight = keras.Variable(3.0)
        >>> update = loops.Update(keras.optimizers.SGD(0.25), [weight])
        >>> @loops.replicated
        ... def step(x):
        ...     with tf.GradientTape() as tape:
        ...         loss = (weight * x) ** 2
        ...     update(tape.gradient(loss, update.variables))
        ...     return {"loss": loss}
        >>> float(step(tf.constant(1.0))["loss"]), float(weight)
        (9.0, 1.5)
    """
    function = tf.function(step)

    @functools.wraps(step)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not tf.executing_eagerly():
            return function(*args, **kwargs)
        with raises_nonfinite():
            return function(*args, **kwargs)

    return call  # type: ignore[return-value]  # the same signature, which wraps() cannot say


def mean_loss(
    per_example: Any, model: keras.Model | None = None, sample_weight: Any = None
) -> tf.Tensor:
    """Returns the mean of per-example losses over the batch, plus the model's regularisation.

    Args:
        per_example: losses, (batch, ...), for example of a Keras loss with `reduction="none"`.
        model: its `losses` (L1, L2, `add_loss`) are added, if given; call it after the model ran. Leave it
            out in a loss function for `TrainStep`, which adds them itself.
        sample_weight: (batch,) or the losses' shape; losses are multiplied by it, and the sum is divided
            by their number, as Keras does.

    Raises:
        ValueError: `per_example` is a scalar already, or `sample_weight` has more dimensions than it.

    Example:
        >>> import tensorflow as tf
        >>> from gradloop import loops
        >>> float(loops.mean_loss(tf.constant([1.0, 2.0]), sample_weight=tf.constant([1.0, 0.0])))
        0.5
    """
    losses = tf.cast(tf.convert_to_tensor(per_example), tf.float32)
    if losses.shape.rank == 0:
        raise ValueError(
            "`per_example` is a scalar: give the loss of each example, `reduction='none'`, so that the mean "
            "is taken once."
        )
    if sample_weight is not None:
        weight = tf.cast(sample_weight, tf.float32)
        missing = (losses.shape.rank or 0) - (weight.shape.rank or 0)
        if missing < 0:
            raise ValueError(
                f"`sample_weight` has shape {weight.shape}, more dimensions than the losses' {losses.shape}: "
                "pass one weight per example, `tf.squeeze(sample_weight, -1)`."
            )
        shape = tf.concat([tf.shape(weight), [1] * missing], 0)
        losses *= tf.reshape(weight, shape)
    total = tf.reduce_mean(losses)
    if model is not None:
        total = tf.add_n([total, *(tf.cast(loss, tf.float32) for loss in model.losses)])
    return total
