"""Records which variables some code writes, while it runs or is traced.

Keras has no list of what a forward pass writes: it does not track the states of a stateful RNN, a
SpectralNormalization writes a weight that trains, and a layer of one's own may write anything. So the methods
that write a variable are patched while a recording is active: they record the value before the write.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.distribute.values import DistributedVariable
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

from .method_hooks import Hook, Hooks, Method
from .scalars import computing_gradient
from .variable_writes import VariableWrites

_WRITING = ("assign", "scatter_", "batch_scatter_", "_strided_slice_assign")
_by_thread: dict[int, VariableWrites] = {}


def active_writes() -> VariableWrites | None:
    """The recording that is active on this thread; None without one."""
    return _by_thread.get(threading.get_ident())


@contextlib.contextmanager
def record_writes(everything: bool = False, seeds: bool = False) -> Iterator[VariableWrites]:
    """Records the first write to each variable in the body, on this thread: each replica has a thread.

    Within another recording, the body's writes go to that one, whatever the arguments.

    Args:
        everything: record all writes, not only those of layers and metrics.
        seeds: record the states of random number generators, too. A skipped step keeps the new states, since
            it has drawn its numbers; so they are left out by default.
    """
    thread = threading.get_ident()
    if thread in _by_thread:
        yield _by_thread[thread]
        return
    with _HOOKS.installed():
        _by_thread[thread] = VariableWrites(everything, seeds)
        try:
            yield _by_thread[thread]
        finally:
            del _by_thread[thread]


def _hooks() -> list[Hook]:
    kinds: list[type] = [BaseResourceVariable, DistributedVariable]
    for kind in kinds:  # the list grows in the loop
        kinds += kind.__subclasses__()
    return [
        *((kind, name, _record_write) for kind in kinds for name in vars(kind) if name.startswith(_WRITING)),
        (keras.layers.Layer, "__call__", _track_layer_call),
        (keras.random.SeedGenerator, "next", _without_seed_writes),
        (tf.GradientTape, "gradient", _mark_gradient),
    ]


_HOOKS = Hooks(_hooks)


def _record_write(method: Method) -> Method:
    def write(variable: tf.Variable, *args: Any, **kwargs: Any) -> Any:
        writes = active_writes()
        if writes is not None:
            writes.before_write(variable)
        return method(variable, *args, **kwargs)

    return write


def _track_layer_call(method: Method) -> Method:
    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        writes = active_writes()
        if writes is None:
            return method(layer, *args, **kwargs)
        writes.layers[id(layer)] = layer
        writes.call_stack.append(layer)
        try:
            return method(layer, *args, **kwargs)
        finally:
            writes.call_stack.pop()

    return call


def _mark_gradient(method: Method) -> Method:
    def gradient(*args: Any, **kwargs: Any) -> Any:
        with computing_gradient():
            return method(*args, **kwargs)

    return gradient


def _without_seed_writes(method: Method) -> Method:
    def draw(*args: Any, **kwargs: Any) -> Any:
        writes = active_writes()
        with contextlib.nullcontext() if writes is None or writes.seeds else writes.paused():
            return method(*args, **kwargs)

    return draw
