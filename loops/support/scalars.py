"""`record`: scalars that a user's code records while a step runs or is traced, and their collection."""

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
from .tensorflow_private import current_graph, is_vectorized, without_autograph

REDUCTIONS = ("mean", "sum", "max")
_COUNTS = ("skipped", "rate_cuts")  # `train` writes these to the logs of an epoch


class Column(NamedTuple):
    """The name of a recorded scalar, and how it is reduced over replicas: "mean", "sum" or "max"."""

    name: str
    reduce: str


Columns: TypeAlias = tuple[Column, ...]


@without_autograph
def record(name: str, value: Scalar | float, reduce: str = "mean") -> None:
    """Records a scalar of the current step. Call it in a loss, a metric, a layer's `call`, or your own step.

    Each step's value appears beside its loss and metrics: in what `step(...)` and `step.run(...)` return, in
    the logs of callbacks, in the progress bar, and in TensorBoard as `step/NAME`. An epoch's logs have
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
        name: its key in the logs. Not the name of the loss or of a metric, not `skipped` or `rate_cuts`, and
            none that begins with `val_`.
        value: a number or a scalar tensor, recorded as float32; bool counts as 0 or 1.
        reduce: how values of several replicas are combined: "mean" (weighted by the examples of each), "sum"
            or "max".

    Raises:
        TypeError: a name that is no string, a value that is no number.
        ValueError: a name that is empty or in use, a value that is no scalar, an unknown `reduce` or not
            the one used before for this name; a call outside of a step, or in a TensorFlow function,
            condition or loop within it.

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
        raise ValueError("`name` is '': pass the key that the scalar is to have in the logs.")
    if reduce not in REDUCTIONS:
        raise ValueError(f"`reduce` must be 'mean', 'sum' or 'max', not {reduce!r}.")
    recorded = _thread_state.recorded
    if _thread_state.disabled or is_symbolic() or name in _thread_state.recomputed:
        return
    if recorded is None and _thread_state.in_gradient:
        raise ValueError(
            f"`record` was called with the name {name!r} while a gradient was computed, and a "
            "`TrainStep` collects scalars only in the forward pass: record it there, or in a step of your "
            "own under `@loops.replicated`."
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


class RecordedScalars:
    """The scalars that one run, or one trace, of a step records.

    Args:
        reserved: names that mean something else in the logs.
        reductions: name -> `reduce` in earlier runs; new names are added to it.
    """

    def __init__(self, reserved: Collection[str], reductions: dict[str, str]) -> None:
        self._reserved = reserved
        self._reductions = reductions
        self._graph = current_graph()
        self._values: dict[str, list[Scalar]] = {}

    @property
    def columns(self) -> Columns:
        """A column for each name, in the order of their first values."""
        return tuple(Column(name, self._reductions[name]) for name in self._values)

    @property
    def values(self) -> list[Scalar]:
        """A float32 scalar for each column."""
        return [_reduce(self._values[name], reduce) for name, reduce in self.columns]

    def add(self, name: str, value: Scalar | float, reduce: str) -> None:
        """Adds a value that was passed to `record`, and raises its errors."""
        if name in (*self._reserved, *_COUNTS) or name.startswith("val_"):
            what = "that of the loss or of a metric" if name in self._reserved else "one of the validation"
            what = "a count that `train` writes" if name in _COUNTS else what
            raise ValueError(f"`name` {name!r} is {what} in the logs: choose another.")
        if (before := self._reductions.get(name, reduce)) != reduce:
            raise ValueError(
                f"`reduce` is {reduce!r} for {name!r}, and was {before!r} for the same name: use one of "
                "them, or two names."
            )
        value = _as_scalar(name, value)
        if current_graph() is not self._graph or is_vectorized() or not self._is_of_this_step(value):
            raise ValueError(
                f"`record` was called with the name {name!r} in a TensorFlow function, condition or loop "
                "within the step, which may run several times or not at all: have that return the value, and "
                "record it after."
            )
        self._reductions[name] = reduce
        self._values.setdefault(name, []).append(tf.cast(value, tf.float32))

    def _is_of_this_step(self, value: tf.Tensor | Array | float) -> bool:
        """Whether a value comes from the step's graph or one around it, not from a function that it calls."""
        graph, seen = getattr(value, "graph", None), self._graph
        while graph is not None and seen is not None and seen is not graph:
            seen = getattr(seen, "outer_graph", None)
        return graph is seen or graph is None


class _ThreadState(threading.local):
    """A replica runs on a thread of its own."""

    recorded: RecordedScalars | None = None
    disabled = False
    in_gradient = False
    recomputed: Collection[str] = ()  # in a gradient, the names that the forward pass recorded
    last: Collection[str] = ()  # the names that the last collection recorded


_thread_state = _ThreadState()


@contextlib.contextmanager
def collect_scalars(reserved: Collection[str], reductions: dict[str, str]) -> Iterator[RecordedScalars]:
    """Collects the scalars that the body records, on this thread; for arguments see `RecordedScalars`."""
    recorded = RecordedScalars(reserved, reductions)
    with _set(recorded=recorded, disabled=False):
        yield recorded
    _thread_state.last = [column.name for column in recorded.columns]


@contextlib.contextmanager
def recording_disabled() -> Iterator[None]:
    """Runs a user's code on trial, or once more: `record` and `tf.summary` do nothing in the body."""
    with _set(disabled=True), tf.summary.record_if(False):
        yield


@contextlib.contextmanager
def computing_gradient() -> Iterator[None]:
    """Marks that the body computes a gradient: `tf.recompute_grad` calls parts of the forward pass again, and
    what these record a second time is dropped.
    """
    recorded = _thread_state.recorded
    known = _thread_state.last if recorded is None else [column.name for column in recorded.columns]
    with _set(in_gradient=True, recomputed=known):
        yield


def is_recording() -> bool:
    """Whether a step that collects scalars is running on this thread."""
    return _thread_state.recorded is not None


@contextlib.contextmanager
def _set(**values: Any) -> Iterator[None]:
    """Sets attributes of `_thread_state` in the body."""
    before = {name: getattr(_thread_state, name) for name in values}
    vars(_thread_state).update(values)
    try:
        yield
    finally:
        vars(_thread_state).update(before)


def _as_scalar(name: str, value: Scalar | float) -> tf.Tensor | Array | float:
    """Returns a value as a tensor, an array or a number; raises if it is no real scalar."""
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


def _reduce(values: list[Scalar], reduce: str) -> Scalar:
    if len(values) == 1:
        return values[0]
    return {"mean": tf.reduce_mean, "sum": tf.reduce_sum, "max": tf.reduce_max}[reduce](tf.stack(values))
