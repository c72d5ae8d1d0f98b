"""Losses and metrics that take the examples of a batch together, so its parts do not make up the whole.

What is known of Keras' own is asked of them. One of a user's own is tried on numbers made up for that, while
a step is traced: if it does not take them, or draws at random, it is trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Tensors
from ..support.scalars import recording_disabled


class BatchDependentError(ValueError):
    """A loss or metric that takes the examples of a batch together was to be given parts of the batch."""


def check_loss_is_per_example(
    loss: keras.losses.Loss, y: Tensors, predictions: Tensors, losses: tf.Tensor, why: str
) -> None:
    """Raises `BatchDependentError` for a loss that takes the examples of a batch together.

    Args:
        loss: a Keras loss.
        y, predictions: of a batch, or symbolic.
        losses: what its `call` returns for them.
        why: what asks for parts, such as "2 replicas", for the message.
    """
    one = losses.shape.rank == 0
    known = one or _along_examples(loss, predictions, losses)
    trusted = is_known(type(loss).call) and is_known(getattr(loss, "fn", None) or type(loss))
    if known or (not trusted and _tried(lambda: _differs(loss.call, (y, predictions), loss.dtype))):
        found = "one number for all examples" if one else "losses that depend on other examples"
        raise BatchDependentError(
            f"`loss` {loss.name!r} gives {found}, so that of a batch is not made up of those of its parts "
            f"({why}): use one device and `accumulate=1`, or a loss that gives one for each example (its "
            "`call` returns (batch,); Dice and Tversky do so with `axis=(1, 2, 3)`), or a step of your own "
            "under `loops.replicated` that gathers outputs and targets, "
            "`tf.distribute.get_replica_context().all_gather(outputs, axis=0)`, and divides the loss by the "
            "number of replicas."
        )


def check_metric_is_per_example(
    name: str, function: Callable[[Tensors, Tensors], Tensors], given: Tensors, values: tf.Tensor
) -> None:
    """Raises `BatchDependentError` for a metric that has to see all examples of a batch, on replicas.

    Args:
        name: of the metric.
        function: of targets and predictions, whose mean the metric is.
        given: the targets and predictions.
        values: what it gives for them.
    """
    if values.shape.rank == 0:
        raise BatchDependentError(
            f"`metrics`: {name!r} gives one value for all examples, so that of a batch is not made up of "
            "those of its replicas: return one for each example, or measure on one device."
        )
    if not is_known(function) and _tried(lambda: _differs(function, given)):
        raise BatchDependentError(
            f"`metrics`: {name!r} gives values that depend on other examples, so that of a batch is not made "
            "up of those of its replicas: measure on one device."
        )


def check_state_is_additive(metric: keras.metrics.Metric, y: Tensors, predictions: Tensors) -> None:
    """Raises `BatchDependentError` for a custom metric whose state is no sum over examples, on replicas.

    Keras adds up what the replicas have. A metric that cannot be made from its config is trusted.
    """

    def counts_otherwise() -> bool:
        numbers = _made_up((y, predictions))

        def state(first: int, last: int) -> list[Array]:
            made = type(metric).from_config(metric.get_config())
            made.update_state(*tf.nest.map_structure(lambda value: tf.constant(value[first:last]), numbers))
            after = [variable.numpy() for variable in made.variables]
            made.reset_state()
            return [value - variable.numpy() for value, variable in zip(after, made.variables)]

        whole, *parts = state(0, 4), state(0, 2), state(2, 4)
        return not all(np.allclose(one, a + b, equal_nan=True) for one, a, b in zip(whole, *parts))

    if not is_known(type(metric)) and _tried(counts_otherwise):
        raise BatchDependentError(
            f"`metrics`: the state of {metric.name!r} after a batch is not the sum of those after its parts, "
            "as replicas have them: count examples, not calls or a maximum, or measure on one device."
        )


def _along_examples(loss: keras.losses.Loss, predictions: Tensors, losses: tf.Tensor) -> bool:
    """Whether a loss is known to go along the first dimension, or what it gives has another one."""
    if isinstance(loss, keras.losses.Circle) or getattr(loss, "fn", None) is keras.losses.circle:
        return True
    first = getattr(predictions, "shape", [None])[:1]
    return bool(first) and losses.shape[0] is not None and losses.shape[0] != first[0]


def is_known(kind: object) -> bool:
    """Whether Keras or this package made a class or a function."""
    return str(getattr(kind, "__module__", "")).startswith(("keras.", __package__))


def _differs(
    function: Callable[[Tensors, Tensors], Tensors], given: Tensors, dtype: tf.DType | str | None = None
) -> bool:
    """Whether a function gives other values for two examples alone than beside two others."""
    numbers = _made_up(given)

    def values(first: int, last: int) -> Array:
        part = tf.nest.map_structure(lambda value: tf.constant(value[first:last], dtype), numbers)
        return np.asarray(function(*part))

    whole, again, parts = values(0, 4), values(0, 4), [values(0, 2), values(2, 4)]
    if not np.array_equal(whole, again, equal_nan=True):
        return False  # it draws at random
    same_shape = [part.shape for part in parts] == [(2, *whole.shape[1:])] * 2
    return not (same_shape and np.allclose(whole, np.concatenate(parts), equal_nan=True))


def _made_up(given: Tensors) -> Tensors:
    """Four examples of numbers, in place of tensors of a batch: arrays of their shapes and dtypes."""
    random = np.random.default_rng(0)

    def made(value: tf.Tensor) -> Array:
        shape = [4, *(size or 3 for size in value.shape[1:])]
        kind = value.dtype.as_numpy_dtype
        floating = value.dtype.is_floating
        return (random.uniform(0.1, 0.9, shape) if floating else random.integers(0, 2, shape)).astype(kind)

    return tf.nest.map_structure(made, given)


def _tried(question: Callable[[], bool]) -> bool:
    """The answer to a question that runs a user's code on made-up numbers; no if it does not take them."""

    def quietly() -> bool:
        with recording_disabled():
            return question()

    try:
        with ThreadPoolExecutor(1) as thread:  # in which TensorFlow is eager, and in no strategy's scope
            return thread.submit(quietly).result()
    except Exception:  # a user's code may raise anything
        return False
