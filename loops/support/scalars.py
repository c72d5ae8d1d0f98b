"""Scalars that a user's code records while a step runs or is traced."""

from __future__ import annotations

import contextlib
import numbers
import threading
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Scalar
from .keras_private import is_inference, is_symbolic
from .tensorflow_private import graph_now, is_vectorized, without_autograph

REDUCTIONS = ("mean", "sum", "max")
_COUNTED = ("skipped", "rate_cuts")  # in the logs of an epoch, by `train`


class Column(NamedTuple):
    """The name of a recorded scalar, and how it is reduced over replicas: "mean", "sum" or "max"."""

    name: str
    reduce: str


Columns: TypeAlias = tuple[Column, ...]


@without_autograph
def record(name: str, value: Scalar | float, reduce: str = "mean") -> None:
    """Records a scalar of the step that runs: in its loss, a metric, a layer's `call`, or a step of your own.

    Each step's value is next to its loss and metrics: in what `step(...)` and `step.run(...)` return, in what
    callbacks get from `train`, in the progress bar, and in TensorBoard as `step/NAME`. An epoch's logs have
    the mean over the steps that recorded it, or with `reduce="max"` the largest value; skipped steps and NaN
    do not count. For an `EvalStep` it is the mean over the batches, which `train` logs as `val_NAME`. In a
    function under `@replicated` it is added to the dict that the function returns.

    On replicas the numbers are those of one device where `value` is a mean, a sum or a maximum over examples
    (in a step of your own `mean_loss` gives a part of the mean: return that instead of recording it).
    Several values in one step, as from a layer that is called twice, become their mean, sum or maximum.
    Recording does not change the numbers of training.

    Outside of a step this is an error, with one exception: a layer that records can be built, called and
    exported without `training=True`; nothing is recorded then.

    Args:
        name: in logs. Not the name of the loss or of a metric, not `skipped` or `rate_cuts`, and none that
            begins with `val_`.
        value: a number or a scalar tensor, which float32 must hold; bool counts as 0 or 1.
        reduce: how values of several replicas are combined: "mean" (weighted by the examples of each), "sum"
            or "max".

    Raises:
        TypeError: a name that is no string, a value that is no number.
        ValueError: a name that is empty or taken, a value that is no scalar, an unknown `reduce` or another
            than before for this name; a call outside of a step, or in a TensorFlow function, condition or
            loop within it.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> def loss(model, batch):
        ...     outputs = model(batch[0], training=True)
        ...     loops.record("largest", keras.ops.max(keras.ops.abs(outputs)), reduce="max")
        ...     return loops.mean_loss(keras.ops.mean(outputs**2, axis=-1))
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step = loops.TrainStep(model, loss, "sgd")
        >>> sorted(step.run(iter(loops.Batches(np.ones((8, 3)), None, 4)), 2))
        ['largest', 'loss']
    """
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a string, not {name!r}.")
    if not name:
        raise ValueError("`name` is '': give what is recorded a name, by which logs have it.")
    if reduce not in REDUCTIONS:
        raise ValueError(f"`reduce` must be 'mean', 'sum' or 'max', not {reduce!r}.")
    recorded = _of_thread.recorded
    if _of_thread.drops or is_symbolic() or name in _of_thread.recomputed:
        return
    if recorded is None and _of_thread.in_gradient:
        raise ValueError(
            f"`record` was called with the name {name!r} in the gradient of a function, which a `TrainStep` "
            "computes when what its loss records is known: record it in the forward pass, or in a step of "
            "your own under `@loops.replicated`."
        )
    if recorded is None and is_inference():
        return
    if recorded is None:
        raise ValueError(
            f"`record` was called with the name {name!r} outside of a step: call it in what a `TrainStep`, "
            "an `EvalStep` or a function under `@loops.replicated` runs (a loss, a metric, a layer's `call`)."
            " In a `tf.function` of your own, return the value."
        )
    recorded.add(name, value, reduce)


class Recorded:
    """What is recorded while code runs once, or is traced once.

    Args:
        taken: names that mean something else in the logs.
        reduces: by name, what was said for it in earlier runs; added to.
    """

    def __init__(self, taken: Collection[str], reduces: dict[str, str]) -> None:
        self._taken = taken
        self._reduces = reduces
        self._graph = graph_now()
        self._values: dict[str, list[Scalar]] = {}

    @property
    def columns(self) -> Columns:
        """What was recorded, in the order in which it came first."""
        return tuple(Column(name, self._reduces[name]) for name in self._values)

    @property
    def values(self) -> list[Scalar]:
        """A float32 scalar for each column."""
        return [_one_of(self._values[name], reduce) for name, reduce in self.columns]

    def add(self, name: str, value: Scalar | float, reduce: str) -> None:
        """Adds a value that `record` was given; raises what it says."""
        if name in (*self._taken, *_COUNTED) or name.startswith("val_"):
            what = "that of the loss or of a metric" if name in self._taken else "one of the validation"
            what = "a count that `train` writes" if name in _COUNTED else what
            raise ValueError(f"`name` {name!r} is {what} in the logs: choose another.")
        if (before := self._reduces.get(name, reduce)) != reduce:
            raise ValueError(
                f"`reduce` is {reduce!r} for {name!r}, and was {before!r} for the same name: use one of "
                "them, or two names."
            )
        value = _checked(name, value)
        if graph_now() is not self._graph or is_vectorized() or not self._sees(value):
            raise ValueError(
                f"`record` was called with the name {name!r} in a TensorFlow function, condition or loop "
                "within the step, which may run several times or not at all: have that return the value, and "
                "record it after."
            )
        self._reduces[name] = reduce
        self._values.setdefault(name, []).append(tf.cast(value, tf.float32))

    def _sees(self, value: tf.Tensor | Array | float) -> bool:
        """Whether a value is none of a TensorFlow function that the code calls."""
        graph, seen = getattr(value, "graph", None), self._graph
        while graph is not None and seen is not None and seen is not graph:
            seen = getattr(seen, "outer_graph", None)
        return graph is seen or graph is None


class _OfThread(threading.local):
    """A replica runs on a thread of its own."""

    recorded: Recorded | None = None
    drops = False
    in_gradient = False
    recomputed: Collection[str] = ()  # in a gradient, the names that the forward pass recorded
    last: Collection[str] = ()  # what was recorded last


_of_thread = _OfThread()


@contextlib.contextmanager
def recorded_scalars(taken: Collection[str], reduces: dict[str, str]) -> Iterator[Recorded]:
    """Collects what the body records, on this thread; the arguments are those of `Recorded`."""
    recorded = Recorded(taken, reduces)
    with _set(recorded=recorded, drops=False):
        yield recorded
    _of_thread.last = [column.name for column in recorded.columns]


@contextlib.contextmanager
def nothing_recorded() -> Iterator[None]:
    """Runs a user's code on trial, or once more: what the body records is dropped, and `tf.summary` rests."""
    with _set(drops=True), tf.summary.record_if(False):
        yield


@contextlib.contextmanager
def gradient_computed() -> Iterator[None]:
    """Computes a gradient: `tf.recompute_grad` runs parts of the forward pass again, which record again."""
    recorded = _of_thread.recorded
    known = _of_thread.last if recorded is None else [column.name for column in recorded.columns]
    with _set(in_gradient=True, recomputed=known):
        yield


def is_recording() -> bool:
    """Whether this code is a part of a step that collects what is recorded."""
    return _of_thread.recorded is not None


@contextlib.contextmanager
def _set(**values: Any) -> Iterator[None]:
    """Sets attributes of `_of_thread` in the body."""
    before = {name: getattr(_of_thread, name) for name in values}
    vars(_of_thread).update(values)
    try:
        yield
    finally:
        vars(_of_thread).update(before)


def _checked(name: str, value: Scalar | float) -> tf.Tensor | Array | float:
    """A value as a tensor, an array or a number; raises if it is no real scalar."""
    if isinstance(value, (keras.Variable, tf.Variable)):
        value = tf.convert_to_tensor(value)
    if not isinstance(value, (tf.Tensor, np.ndarray, np.generic, numbers.Real)):
        raise TypeError(
            f"`value` of {name!r} must be a number or a scalar tensor, not {type(value).__name__}: reduce it "
            "to one, for example with `tf.reduce_mean`."
        )
    if not hasattr(value, "dtype"):
        value = float(value)  # TensorFlow knows no fractions, and no integers of more than 64 bits
    elif isinstance(value.dtype, np.dtype) and value.dtype.kind not in "biufV":  # bfloat16 is of kind V
        raise TypeError(f"`value` of {name!r} has dtype {value.dtype.name}: record a real number.")
    dtype = tf.as_dtype(getattr(value, "dtype", tf.float32))
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise TypeError(f"`value` of {name!r} has dtype {dtype.name}: record a real number.")
    shape = getattr(value, "shape", ())
    if tf.TensorShape(shape).rank != 0:
        raise ValueError(
            f"`value` of {name!r} has shape {shape}: reduce it to a scalar, for example with "
            "`tf.reduce_mean`."
        )
    return value


def _one_of(values: list[Scalar], reduce: str) -> Scalar:
    if len(values) == 1:
        return values[0]
    return {"mean": tf.reduce_mean, "sum": tf.reduce_sum, "max": tf.reduce_max}[reduce](tf.stack(values))
