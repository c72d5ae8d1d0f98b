"""The mean of a loss over a batch, on one device or on replicas."""

from __future__ import annotations

import keras
import tensorflow as tf

from ...optim.common.types import Scalar
from ...optim.gradients.replicas import in_replica, replica_count
from ..distribute.sharding import STEP_SCALES_LOSS, total_over_replicas
from .weights import expand_to_rank


def mean_loss(
    per_example: tf.Tensor, model: keras.Model | None = None, sample_weight: tf.Tensor | None = None
) -> Scalar:
    """Returns the mean of per-example losses over the batch, plus the model's regularisation.

    On replicas it is this replica's part of that mean: the parts add up to the mean over the examples of all
    replicas, however many each has, and so do their gradients, which `Update` sums.

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
        if (weight.shape.rank or 0) > (losses.shape.rank or 0):
            raise ValueError(
                f"`sample_weight` has shape {weight.shape}, more dimensions than the losses' {losses.shape}: "
                "pass one weight per example, `tf.squeeze(sample_weight, -1)`."
            )
        losses *= expand_to_rank(weight, losses.shape.rank)
    penalties = [] if model is None else [tf.cast(loss, tf.float32) for loss in model.losses]
    if not in_replica() or replica_count() == 1 or STEP_SCALES_LOSS.get():
        return tf.add_n([tf.reduce_mean(losses), *penalties])
    here = tf.cast(tf.size(losses), tf.float32)
    total = total_over_replicas(here)
    return tf.add_n([tf.reduce_sum(losses) / total, *(penalty * (here / total) for penalty in penalties)])
