"""The learning rate range test: a short run at rising rates, undone afterwards."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from ..common.arguments import real_number, whole_number
from ..common.messages import short_repr
from .lr_curve import LRCurve

_SMOOTHING = 0.98
_DIVERGED = 4.0


class RangeTestStep(Protocol):
    """What the test asks of a training step; `loops.TrainStep` has it.

    Attributes:
        optimizer: its `learning_rate` can be set, and counts from the next step on.
    """

    optimizer: Any

    def run(self, iterator: Any, steps: int) -> Mapping[str, Any]:
        """Trains on so many batches; the array `"loss"` has a value for each."""

    def state(self) -> Mapping[str, Any]:
        """Every variable that a step may write, made where it was not: all that has to be put back."""


def lr_range_test(
    step: RangeTestStep,
    data: Any,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
) -> LRCurve:
    """Trains a batch at each of `steps` rates from `lowest` to `highest` and tells how the loss went.

    Afterwards everything is bit for bit as before: weights, the optimizer's state and its rate, seed
    generators, metrics and the place in the data. That holds too when an error or Ctrl-C ends the test.

    Rates ascend geometrically. The losses are smoothed by an exponential mean of factor 0.98, corrected for
    its start. The test ends early when the smoothed loss exceeds four times its best, when a loss is not
    finite, or when the step raises an `ArithmeticError` (`loops.NonFiniteError` is one). Groups with a rate
    of their own keep it. A step that accumulates batches learns only at the rates at which it updates.

    Args:
        step: a training step, such as `loops.TrainStep`, whose optimizer has a plain number as its rate.
        data: a `loops.Batches`, read from the epoch that comes next; a `tf.data.Dataset`, read from its
            start; or an iterator of either, read from where it is. They begin anew where they end, but for
            a dataset's iterator, which must have `steps` batches left. A dataset that reshuffles each
            iteration counts the test's passes as iterations, so its later orders are others than without
            the test, and TensorFlow has no way to undo that: where it matters, pass a `Batches`, or the
            iterator that you go on with.
        lowest: first rate, above 0.
        highest: last rate, above `lowest`.
        steps: how many rates, at least 3.

    Returns:
        The rates that ran, their losses, and a suggestion.

    Raises:
        TypeError: a `step` or `data` of another type, or an optimizer whose rate is a schedule.
        ValueError: rates or `steps` out of range, data that is empty or whose place cannot be restored, or
            a loss that is not finite at the first rate already.

    Example:
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> data = loops.Batches(np.eye(3), np.ones((3, 1)), batch_size=3)
        >>> before = model.get_weights()[0].copy()
        >>> curve = lr_range_test(loops.TrainStep(model, "mse", "sgd"), data, 1e-4, 100.0)
        >>> 0.01 < curve.suggestion < 3.0, bool((model.get_weights()[0] == before).all())
        (True, True)

    Reference: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3;
    fastai's `lr_find`.
    """
    lowest, highest = real_number("lowest", lowest, above=0), real_number("highest", highest, above=0)
    if lowest >= highest:
        raise ValueError(f"`lowest` {lowest:g} must be below `highest` {highest:g}: the rates ascend")
    steps = whole_number("steps", steps, at_least=3)
    if not all(hasattr(step, name) for name in ("optimizer", "run", "state")):
        raise TypeError(
            f"`step` must be a training step, such as a `loops.TrainStep`, got {short_repr(step)}"
        )
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    total, best = 0.0, np.inf
    with _rate_restored(step.optimizer), _state_restored(step), _reading(data) as iterator:
        for rate in np.geomspace(lowest, highest, steps):
            step.optimizer.learning_rate = float(rate)
            try:
                loss = float(step.run(iterator(), 1)["loss"][0])
            except ArithmeticError:
                if not losses:
                    raise
                break
            if not np.isfinite(loss):
                break
            total = _SMOOTHING * total + (1 - _SMOOTHING) * loss
            mean = total / (1 - _SMOOTHING ** (len(losses) + 1))
            rates.append(rate)
            losses.append(loss)
            smoothed.append(mean)
            best = min(best, mean)
            # For a loss above 0: greater than four times its best.
            if mean - best > (_DIVERGED - 1) * abs(best):
                break
    if not losses:
        raise ValueError(
            f"the loss is not finite at the rate {lowest:g} already, before any update: look for bad inputs "
            "or weights"
        )
    return LRCurve(np.array(rates), np.array(losses), np.array(smoothed))


@contextlib.contextmanager
def _rate_restored(optimizer: Any) -> Iterator[None]:
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    try:
        optimizer.learning_rate = rate
    except (AttributeError, TypeError) as error:  # a schedule; a function
        raise TypeError(
            "the optimizer's `learning_rate` cannot be set, since it is a schedule or a function: make the "
            "range test with a plain number, such as keras.optimizers.Adam(1e-3), and train with the schedule"
        ) from error
    try:
        yield
    finally:
        optimizer.learning_rate = rate


@contextlib.contextmanager
def _state_restored(step: RangeTestStep) -> Iterator[None]:
    saved = [(variable, variable.numpy()) for variable in step.state().values()]
    try:
        yield
    finally:
        for variable, value in saved:
            variable.assign(value)


@contextlib.contextmanager
def _reading(data: Any) -> Iterator[Callable[[], Any]]:
    """Gives a function that returns an iterator with a batch left; `data` is where it was afterwards."""
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == 0:
            raise ValueError("`data` is empty: there is no batch to train on")
        endless = iter(data.repeat())
        yield lambda: endless
    elif isinstance(data, tf.data.Iterator):
        with _place_restored(data):
            yield lambda: data
    elif hasattr(data, "iterator") and hasattr(data, "epoch"):  # loops.Batches
        yield _Epochs(data.iterator(data.epoch))
    elif hasattr(data, "batches") and hasattr(data, "position"):  # its iterator, which stays where it is
        yield _Epochs(data.batches.iterator(data.epoch, data.position))
    else:
        raise TypeError(
            "`data` must be a `loops.Batches`, a `tf.data.Dataset` or an iterator of one, got "
            f"{short_repr(data)}: wrap arrays as `loops.Batches(x, y, batch_size)`"
        )


class _Epochs:
    """Goes through the epochs of a `Batches` from a place on, with an iterator for each."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __call__(self) -> Any:
        if not self._iterator.remaining:
            self._iterator = self._iterator.batches.iterator(self._iterator.epoch + 1)
        return self._iterator


@contextlib.contextmanager
def _place_restored(iterator: tf.data.Iterator) -> Iterator[None]:
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    with tempfile.TemporaryDirectory() as folder:
        try:
            place = checkpoint.write(os.path.join(folder, "place"))
        except tf.errors.OpError as error:
            raise ValueError(
                "`data` is an iterator whose place TensorFlow cannot save, so the test could not put it back "
                f"({error.message}): pass the dataset itself, or a `loops.Batches`"
            ) from error
        try:
            yield
        finally:
            checkpoint.read(place)
