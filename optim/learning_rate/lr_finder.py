"""The learning rate range test: a short run at rising rates, undone afterwards."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from ..common.arguments import real_number, whole_number
from ..common.messages import short_repr
from ..common.signals import stoppable
from ..common.types import Array, Batch
from ..gradients.totals import assign_values
from .lr_curve import LRCurve

_SMOOTHING = 0.98  # weight of the past in the moving average of the losses
_DIVERGED = 4.0  # the test ends when the average exceeds so many times its lowest value


class RangeTestStep(Protocol):
    """What the test asks of a training step; `loops.TrainStep` has it."""

    optimizer: keras.optimizers.Optimizer  # its `learning_rate` can be set, and counts from the next step on

    def run(self, iterator: Iterator[Batch], steps: int) -> Mapping[str, Array]:
        """Trains on the next `steps` batches; `"loss"` is an array (steps,)."""

    def state(self) -> Mapping[str, tf.Variable]:
        """Every variable that a step may write, created now if it does not exist yet."""


def lr_range_test(
    step: RangeTestStep, data: Iterable[Batch], lowest: float = 1e-7, highest: float = 1.0, steps: int = 100
) -> LRCurve:
    """Trains on a batch at each of `steps` learning rates from `lowest` to `highest` and records the losses.

    Afterwards everything is bit for bit as before: weights, the optimizer's state and its rate, seed
    generators, metrics and the position in the data. This also holds if an error or Ctrl-C ends the test.

    Rates ascend geometrically. The losses are smoothed by an exponential moving average of factor 0.98 with
    bias correction. The test ends early when the smoothed loss exceeds four times its lowest value, when a
    loss is not finite, or when the step raises an `ArithmeticError` (`loops.NonFiniteError` is one). Groups
    with a learning rate of their own keep it. With gradient accumulation, only the rates at which an update
    happens change weights. Test with a step without `on_spike`, which would leave out the steps
    whose loss rises because the rate is too high.

    Args:
        step: a training step, such as `loops.TrainStep`, whose optimizer has a plain number as its rate.
        data: a `loops.Batches`, read from its next epoch; a `tf.data.Dataset`, read from its start; or an
            iterator of either, read from its position. Data that ends is read again from its start, except
            for a dataset's iterator, which must have `steps` batches left. A dataset that reshuffles each
            iteration counts the test's passes as iterations, so later passes have another order than without
            the test. TensorFlow cannot undo that: if it matters, pass a `Batches`, or the iterator that you
            go on with.
        lowest: first rate, above 0.
        highest: last rate, above `lowest`.
        steps: how many rates, each for one batch, at least 3.

    Returns:
        The rates tried, their losses, and a suggested rate.

    Raises:
        TypeError: a `step` or `data` of another type, or an optimizer whose rate is a schedule.
        ValueError: rates or `steps` out of range, data that is empty or whose position cannot be restored,
            or a loss that is not finite at the first rate.

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
    points: list[tuple[float, float, float]] = []  # rate, loss, smoothed loss
    average, best = 0.0, np.inf
    rates: Iterable[float] = np.geomspace(lowest, highest, steps)
    if getattr(step, "mean_over_workers", None) is None:  # of several workers none may end alone
        rates = stoppable(rates)
    silent = tf.summary.record_if(False)  # these steps are of no run
    with silent, _restored_rate(step.optimizer), restored_state(step), _restored_data(data) as iterator:
        for rate in rates:
            step.optimizer.learning_rate = float(rate)
            try:
                loss = float(step.run(iterator(), 1)["loss"][0])
            except ArithmeticError:
                if not points:
                    raise
                break
            if not np.isfinite(loss):
                break
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            mean = average / (1 - _SMOOTHING ** (len(points) + 1))
            points.append((rate, loss, mean))
            best = min(best, mean)
            # For a positive loss: if it exceeds four times its lowest value.
            if mean - best > (_DIVERGED - 1) * abs(best):
                break
    if not points:
        raise ValueError(
            f"the loss is not finite at the rate {lowest:g} already, before any update: look for bad inputs "
            "or weights"
        )
    return LRCurve(*map(np.array, zip(*points)))


@contextlib.contextmanager
def _restored_rate(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    try:
        optimizer.learning_rate = rate
    except (AttributeError, TypeError) as error:  # it is a schedule; a function
        raise TypeError(
            "the optimizer's `learning_rate` cannot be set, since it is a schedule or a function: make the "
            "range test with a plain number, such as keras.optimizers.Adam(1e-3), and train with the schedule"
        ) from error
    try:
        yield
    finally:
        optimizer.learning_rate = rate


@contextlib.contextmanager
def restored_state(step: RangeTestStep) -> Iterator[None]:
    """In the end, has every variable of a step's `state` as it was, whatever the body raised."""
    saved = [(variable, variable.numpy()) for variable in step.state().values()]
    try:
        yield
    finally:
        assign_values(saved)


@contextlib.contextmanager
def _restored_data(data: Any) -> Iterator[Callable[[], Iterator[Batch]]]:
    """Yields a function that returns an iterator with a batch left; restores the position of `data`."""
    if isinstance(data, tf.data.Dataset):
        if data.cardinality() == 0:
            raise ValueError("`data` is empty: there is no batch to train on")
        endless = iter(data.repeat())
        yield lambda: endless
    elif isinstance(data, tf.data.Iterator):
        with _restored_position(data):
            yield lambda: data
    elif hasattr(data, "iterator") and hasattr(data, "epoch"):  # loops.Batches
        yield Epochs(data.iterator(data.epoch))
    elif hasattr(data, "batches") and hasattr(data, "position"):  # its iterator, which is not advanced
        yield Epochs(data.batches.iterator(data.epoch, data.position))
    else:
        raise TypeError(
            "`data` must be a `loops.Batches`, a `tf.data.Dataset` or an iterator of one, got "
            f"{short_repr(data)}: wrap arrays as `loops.Batches(x, y, batch_size)`"
        )


class Epochs:
    """Reads a `Batches` epoch after epoch: each call gives an iterator with a batch left."""

    def __init__(self, iterator: Any) -> None:  # of `loops.Batches`, which this package must not import
        self._iterator = iterator

    def __call__(self) -> Iterator[Batch]:
        if not self._iterator.remaining:
            self._iterator = self._iterator.batches.iterator(self._iterator.epoch + 1)
        return self._iterator


@contextlib.contextmanager
def _restored_position(iterator: tf.data.Iterator) -> Iterator[None]:
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    with tempfile.TemporaryDirectory() as folder:
        try:
            saved = checkpoint.write(os.path.join(folder, "position"))
        except tf.errors.OpError as error:
            raise ValueError(
                "`data` is an iterator whose position TensorFlow cannot save, so the test could not restore "
                f"it ({error.message}): pass the dataset itself, or a `loops.Batches`"
            ) from error
        try:
            yield
        finally:
            checkpoint.read(saved)
