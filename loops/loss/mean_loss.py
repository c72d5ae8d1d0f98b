"""The mean of a loss over a batch, on one device or on replicas."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

import keras
import tensorflow as tf

from ...optim.common.types import Scalar
from ...optim.gradients.replicas import in_replica, replica_count
from ..distribute.sharding import total_over_replicas
from ..support.keras_private import keras_mask
from ..support.tensorflow_private import without_autograph
from .reduction import reduced


class StepLoss(NamedTuple):
    """What a step and the `mean_loss` in its user's loss function tell each other.

    Attributes:
        part: by what the step multiplies the function's result on this replica; None for one replica.
        divisors: what each call divided by, for the step.
        masked: for each call, whether that is not the number of all values.
    """

    part: Scalar | None
    divisors: list[Scalar]
    masked: list[bool]

    def divisor(self, examples: Scalar, accumulated: bool) -> Scalar:
        """What the function's loss was divided by, as far as that is known: float32 scalar.

        Raises:
            ValueError: it was divided by several numbers, and is to be `accumulated` with others.
        """
        if len(self.masked) == 1 and self.masked[0]:
            return self.divisors[0]
        if accumulated and any(self.masked):
            raise ValueError(
                "`loss` is a function that takes several means, one of which is masked, so what a batch "
                "counts beside others that `accumulate` joins with it is not one number: use `accumulate=1`, "
                "or one `mean_loss`, of the sum of the losses."
            )
        return examples


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
            function of Keras attached to them (`ignore_class`) is heeded.
        model: its `losses` (L1, L2, `add_loss`) are added, if given; call it after the model ran. Leave it
            out in a loss function for `TrainStep`, which adds them itself.
        sample_weight: (batch,) or the losses' shape; losses are multiplied by it, and the sum is divided
            by their number, as Keras does.
        mask: (batch,) or the losses' shape: which losses count, in the sum and in the number; None for all.

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
    step = STEP_LOSS.get()
    if step is not None:
        step.divisors.append(found.divisor)
        step.masked.append(found.by == "values")
    if not in_replica() or replica_count() == 1 or (step is not None and found.by == "examples"):
        return tf.add_n([found.value, *penalties])
    # Penalties are not of the values that a mask leaves.
    here = tf.stack([found.divisor, tf.cast(tf.size(losses), tf.float32)])
    part, of_all = tf.unstack(tf.math.divide_no_nan(here, total_over_replicas(here)))
    loss = tf.add_n([found.value * part, *(penalty * of_all for penalty in penalties)])
    return loss if step is None or step.part is None else loss / step.part
