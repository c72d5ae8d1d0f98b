"""The mean of a loss over a batch, on one device or on replicas."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

import keras
import tensorflow as tf

from ...optim.common.types import Scalar
from ...optim.gradients.replicas import in_replica, replica_count
from ..distribute.sharding import Shard, total_over_replicas
from ..support.keras_private import keras_mask
from ..support.tensorflow_private import without_autograph
from .reduction import LossValue, reduced, share

# Why batches cannot be accumulated by a loss that is a sum.
SUM = (
    "`loss` has the reduction 'sum', and `accumulate` averages over batches: use 'sum_over_batch_size', with "
    "a learning rate that is larger by the number of examples."
)


class StepLoss(NamedTuple):
    """What a step and the means in its user's loss function tell each other.

    Attributes:
        examples: of this replica, float32 scalar.
        shard: on several replicas, what these count.
        parts: what makes the batch a part of a larger one, for messages; '' for a whole one.
        found: the value of each mean, for the step.
    """

    examples: Scalar
    shard: Shard | None
    parts: str
    found: list[LossValue]

    @property
    def counted(self) -> Scalar:
        """What this replica's examples count together."""
        return self.examples if self.shard is None else self.examples * self.shard.weight

    def taken(self, found: LossValue) -> Scalar:
        """Takes down a mean; returns what the function is to have of it: the step weighs that by examples."""
        self.found.append(found)
        if self.shard is None or found.by == "examples":
            return found.value
        value = found.of_replica(self.counted, self.shard).value
        return value / share(self.counted, self.shard.examples, value.dtype)

    def divisor(self, accumulated: bool) -> Scalar:
        """What the function's loss was divided by, as far as that is known: float32 scalar.

        Raises:
            ValueError: it was divided by several numbers, or by none, and is to be `accumulated` with others.
        """
        kinds = {found.by for found in self.found} - {"examples"}
        if accumulated and "sum" in kinds:
            raise ValueError(SUM)
        if len(self.found) == 1 and kinds == {"values"}:
            return self.found[0].divisor
        if accumulated and kinds:
            raise ValueError(
                "`loss` is a function that takes several means, one of which is masked, so what a batch "
                "counts beside others that `accumulate` joins with it is not one number: use `accumulate=1`, "
                "or one `mean_loss`, of the sum of the losses."
            )
        return self.examples


# Set while a step runs a user's loss function.
STEP_LOSS: ContextVar[StepLoss | None] = ContextVar("STEP_LOSS", default=None)


@without_autograph
def mean_loss(
    per_example: tf.Tensor,
    model: keras.Model | None = None,
    sample_weight: tf.Tensor | None = None,
    mask: tf.Tensor | None = None,
) -> Scalar:
    """Returns the mean of per-example losses over the batch, plus the model's regularisation.

    On replicas it is this replica's part of that mean: the parts add up to the mean over the examples of all
    replicas, however many each has, and so do their gradients, which `Update` sums.

    Args:
        per_example: losses, (batch, ...), for example of a Keras loss with `reduction="none"`. A mask that a
            function of Keras attached to them (`ignore_class`) is applied.
        model: its `losses` (L1, L2, `add_loss`) are added; call this after the model ran. None adds nothing:
            so in a loss function for `TrainStep`, which adds them itself.
        sample_weight: (batch,) or the losses' shape; losses are multiplied by it, and the sum is divided
            by their number, as Keras does. None for 1.
        mask: (batch,) or the losses' shape: which losses count, in the sum and in the number; None for all.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: `per_example` is a scalar already, or `sample_weight` or `mask` does not fit it.

    Example:
        >>> import tensorflow as tf
        >>> from gradloop import loops
        >>> float(loops.mean_loss(tf.constant([1.0, 2.0]), sample_weight=tf.constant([1.0, 0.0])))
        0.5
        >>> float(loops.mean_loss(tf.constant([1.0, 2.0]), mask=tf.constant([True, False])))
        1.0
    """
    losses = tf.cast(tf.convert_to_tensor(per_example), tf.float32)
    if losses.shape.rank == 0:
        raise ValueError(
            "`per_example` is a scalar: give the loss of each example, `reduction='none'`, so that the mean "
            "is taken once."
        )
    weight = None if sample_weight is None else tf.convert_to_tensor(sample_weight)
    masks = [None if mask is None else tf.cast(mask, tf.bool), keras_mask(per_example)]
    found = reduced("mean", losses, weight, masks, tf.cast(tf.shape(losses)[0], tf.float32))
    penalties = [] if model is None else [tf.cast(loss, tf.float32) for loss in model.losses]
    if (step := STEP_LOSS.get()) is not None:
        return tf.add_n([step.taken(found), *penalties])
    if not in_replica() or replica_count() == 1:
        return tf.add_n([found.value, *penalties])
    # Penalties are not of the values that a mask leaves.
    here = tf.stack([found.divisor, tf.cast(tf.size(losses), tf.float32)])
    part, of_all = tf.unstack(tf.math.divide_no_nan(here, total_over_replicas(here)))
    return tf.add_n([found.value * part, *(penalty * of_all for penalty in penalties)])
