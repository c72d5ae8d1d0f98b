"""Losses of which the parts of a batch do not make up the whole: those that take its examples together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Tensors


class CoupledError(ValueError):
    """A loss or metric that takes the examples of a batch together was to be given parts of the batch."""


def check_splits(
    loss: keras.losses.Loss, y: Tensors, predictions: Tensors, losses: tf.Tensor, why: str
) -> None:
    """Raises `CoupledError` for a loss that takes the examples of a batch together.

    Args:
        loss: a Keras loss.
        y, predictions: of a batch, or symbolic.
        losses: what its `call` returns for them.
        why: what asks for parts, such as "2 replicas", for the message.
    """
    one = losses.shape.rank == 0
    if one or _along_examples(loss, predictions, losses) or _differs(loss, y, predictions):
        found = "one number for all examples" if one else "losses that depend on other examples"
        raise CoupledError(
            f"`loss` {loss.name!r} gives {found}, so that of a batch is not made up of those of its parts "
            f"({why}): use one device and `accumulate=1`, or a loss that gives one for each example (its "
            "`call` returns (batch,); Dice and Tversky do so with `axis=(1, 2, 3)`), or a step of your own "
            "under `loops.replicated` that gathers outputs and targets, "
            "`tf.distribute.get_replica_context().all_gather(outputs, axis=0)`, and divides the loss by the "
            "number of replicas."
        )


def _along_examples(loss: keras.losses.Loss, predictions: Tensors, losses: tf.Tensor) -> bool:
    """Whether a loss is known to go along the first dimension, or what it gives has another one."""
    if isinstance(loss, keras.losses.Circle) or getattr(loss, "fn", None) is keras.losses.circle:
        return True
    first = getattr(predictions, "shape", [None])[:1]
    return bool(first) and losses.shape[0] is not None and losses.shape[0] != first[0]


def _differs(loss: keras.losses.Loss, y: Tensors, predictions: Tensors) -> bool:
    """Whether a loss of one's own gives other losses for two examples alone than beside two others.

    It is tried on numbers made up for that. One that does not take them, or draws at random, is trusted.
    """
    made_by = getattr(loss, "fn", None) or type(loss)
    if (made_by.__module__ or "").startswith("keras."):
        return False
    random, flat = np.random.default_rng(0), tf.nest.flatten((y, predictions))

    def made_up(value: tf.Tensor) -> Array:
        shape = [4, *(size or 3 for size in value.shape[1:])]
        return random.uniform(0.1, 0.9, shape) if value.dtype.is_floating else random.integers(0, 2, shape)

    def differs() -> bool:
        numbers = [made_up(value) for value in flat]

        def losses(examples: int) -> Array:
            given = [tf.constant(value[:examples], loss.dtype) for value in numbers]
            return np.asarray(loss.call(*tf.nest.pack_sequence_as((y, predictions), given)))[:2]

        four, again, two = losses(4), losses(4), losses(2)
        same = four.shape == two.shape and np.allclose(four, two, equal_nan=True)
        return not same and np.array_equal(four, again, equal_nan=True)

    try:
        with ThreadPoolExecutor(1) as thread:  # in which TensorFlow is eager, and in no strategy's scope
            return thread.submit(differs).result()
    except Exception:  # a user's code may raise anything
        return False
