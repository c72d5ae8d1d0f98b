"""Finds a NaN or infinity before it reaches a weight.

Of a large tensor, the sum of its elements is checked, which is not finite if one of them is not. TensorFlow
adds many elements at a time but checks them one by one, which on a CPU is at least ten times slower. A sum
that exceeds the largest float, 3e38, counts as an infinity.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from ...optim.common.types import Batch, Gradient, Scalar, Tensors
from ...optim.naming.stable_names import tree_of
from ..data.batches import BatchIterator, DataIterator

_MARK = "gradloop found a non-finite gradient of "
_LOSS = "(the loss itself)"
# Checking this many elements takes less time than starting an operation that adds them.
_SMALL_SIZE = 256
_MAX_POOLINGS = tuple(kind for name, kind in vars(keras.layers).items() if "MaxPool" in name)


class NonFiniteError(ArithmeticError):
    """A loss or gradient was NaN or infinite; the weights are those from before the step.

    Attributes:
        step: number of the update that was not made, from 1; None if it is not known.
        variable: stable name of the first variable, in the model's order, whose gradient is not finite (its
            `path` for an `Update` over a list); None if only the loss is not finite.
        records: the `Records` of the steps before it in the same call, if there were any.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
        >>> step = loops.TrainStep(model, "mse", "sgd")
        >>> x = np.ones((8, 3))
        >>> x[6] = np.nan  # in the fourth batch
        >>> data = loops.Batches(x, np.zeros((8, 2)), batch_size=2, shuffle=False)
        >>> try:
        ...     values = step.run(iter(data), 4)
        ... except loops.NonFiniteError as error:
        ...     print(error.step, error.variable, len(error.records))
        4 head/kernel 3
    """

    step: int | None = None
    variable: str | None = None
    records: Any = None

    @classmethod
    def at(cls, step: int | None, variable: str | None, hint: str = "") -> NonFiniteError:
        """Returns the error for a step and a variable, with a hint (a sentence)."""
        where = f"the gradient of {variable!r}" if variable else "the loss"
        hint += "" if variable else " (A batch without examples has none.)"
        when = f"step {step}: " if step is not None else ""
        error = cls(
            f"{when}{where} is not finite (NaN or infinity). The weights are those from before the step."
            f"{hint} Look for a learning rate that is too high or bad inputs; `clip_norm` limits large "
            "gradients, and `on_nonfinite='skip'` passes over such steps."
        )
        error.step, error.variable = step, variable
        return error

    @classmethod
    def from_tensorflow(
        cls, error: Exception, optimizer: keras.optimizers.Optimizer | None, hint: Callable[[], str] = str
    ) -> NonFiniteError | None:
        """Returns a `NonFiniteError` for an error of `check_finite` in TensorFlow; None for another.

        Args:
            error: from TensorFlow.
            optimizer: its `iterations` give the step; None if it is not known.
            hint: returns a sentence to add.
        """
        match = re.search(re.escape(_MARK) + "<([^>]*)>", str(error))
        if match is None:
            return None
        name = match.group(1)
        step = None if optimizer is None else int(optimizer.iterations.numpy()) + 1
        return cls.at(step, None if name == _LOSS else name, hint())


def check_finite(gradients: Sequence[Gradient], names: Sequence[str], loss: Scalar | None = None) -> Scalar:
    """Returns a scalar whose operation fails unless all values are finite; the error names the first bad one.

    They are checked in the order of the variables, the loss last, so the name is the same in every run.
    """
    values = [_reduced(value) for value in [*gradients, *([] if loss is None else [loss])]]
    done: list[tf.Tensor] = []
    for value, name in zip(values, [*names, _LOSS]):
        with tf.control_dependencies(done):
            done = [tf.debugging.check_numerics(value, f"{_MARK}<{name}>")]
    return done[0]


def check_finite_unless(
    fine: Scalar, gradients: Sequence[Gradient], names: Sequence[str], loss: Scalar | None = None
) -> Scalar:
    """`check_finite` if `fine` is false; if it is true, no operation runs for each gradient."""

    def check() -> Scalar:
        with tf.control_dependencies([check_finite(gradients, names, loss)]):
            return tf.constant(True)

    return tf.cond(fine, lambda: tf.constant(True), check)


def all_finite(values: Sequence[Gradient]) -> Scalar:
    """Returns a scalar bool tensor: whether every element of every tensor is finite."""
    return tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(_reduced(value))) for value in values]))


def _reduced(value: Gradient) -> tf.Tensor:
    """A tensor that is finite exactly if all elements are: a small tensor itself, the sum of a large one."""
    value = getattr(value, "values", value)
    elements = value.shape.num_elements()
    if elements is not None and elements <= _SMALL_SIZE:
        return value
    if value.dtype == tf.float16:
        value = tf.cast(value, tf.float32)  # the sum may exceed the range of float16
    return tf.reduce_sum(value)


@contextlib.contextmanager
def raises_nonfinite(optimizer: keras.optimizers.Optimizer | None = None) -> Iterator[None]:
    """Turns `check_finite`'s TensorFlow error, raised in the body, into a `NonFiniteError`."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        nonfinite = NonFiniteError.from_tensorflow(error, optimizer)
        if nonfinite is None:
            raise
        raise nonfinite from error


def hides_nan(model: keras.Model) -> bool:
    """Whether a NaN in the inputs may not show in the outputs of a model.

    On a CPU, TensorFlow's max-pooling treats NaN as the smallest number: the loss, and gradients of later
    layers, are finite and wrong. (On a GPU it stays NaN.)
    """
    return any(isinstance(node.layer, _MAX_POOLINGS) for node in tree_of(model).nodes)


def nan_of(inputs: Tensors) -> Scalar:
    """Returns NaN if an element of a nest's floating tensors is NaN or infinite, else 0: float32 scalar."""
    floats = _floats(inputs)
    return tf.where(all_finite(floats), 0.0, math.nan) if floats else tf.constant(0.0)


def has_nan(batch: Batch) -> Scalar:
    """Returns a scalar bool tensor: whether an element of a nest's floating tensors is NaN.

    Infinities do not count, as half precision turns large numbers into them.
    """
    return tf.reduce_any([False, *(tf.reduce_any(tf.math.is_nan(each)) for each in _floats(batch))])


def nonfinite_inputs(source: DataIterator | Batch) -> str:
    """Returns a sentence if the batch that failed holds NaN or infinity and can be read again, else ''.

    Args:
        source: that batch, or the iterator whose next batch it is.
    """
    if isinstance(source, tf.data.Iterator):
        return ""
    if isinstance(source, BatchIterator):
        source = next(source.batches.iterator(source.epoch, source.position))
    bad = sum(int(tf.reduce_sum(tf.cast(~tf.math.is_finite(t), tf.int64))) for t in _floats(source))
    numbers = "1 value that is" if bad == 1 else f"{bad} values that are"
    return f" The inputs of this batch hold {numbers} not finite." if bad else ""


def _floats(nest: Tensors) -> list[tf.Tensor]:
    """The floating tensors of a nest; of sparse and ragged ones, their values."""
    tensors = tf.nest.flatten(nest, expand_composites=True)
    return [tensor for tensor in tensors if tensor is not None and tensor.dtype.is_floating]
