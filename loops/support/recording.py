"""Which variables some code writes: found while it runs or is traced.

Keras has no list of what a forward pass writes: it tracks no state of a stateful RNN, a SpectralNormalization
writes a weight that trains, and a layer of one's own may write anything. So the writes themselves are
watched: for the time of a recording the methods that write a variable are replaced by ones that tell.
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
from .scalars import gradient_computed
from .writes import Writes

_WRITING = ("assign", "scatter_", "batch_scatter_", "_strided_slice_assign")
_by_thread: dict[int, Writes] = {}


def writes_now() -> Writes | None:
    """The recording that this code is in, if there is one."""
    return _by_thread.get(threading.get_ident())


@contextlib.contextmanager
def recording(everything: bool = False, seeds: bool = False) -> Iterator[Writes]:
    """Records what the body writes, on this thread: a replica has its own.

    Within a recording, the body belongs to that. `everything` is also what is not written by layers and
    metrics; `seeds` are also the states of generators of random numbers: a step that is skipped has drawn its
    own, so it leaves them out.
    """
    thread = threading.get_ident()
    if thread in _by_thread:
        yield _by_thread[thread]
        return
    with _HOOKS.installed():
        _by_thread[thread] = Writes(everything, seeds)
        try:
            yield _by_thread[thread]
        finally:
            del _by_thread[thread]


def _hooks() -> list[Hook]:
    kinds: list[type] = [BaseResourceVariable, DistributedVariable]
    for kind in kinds:  # which grows
        kinds += kind.__subclasses__()
    return [
        *((kind, name, _noting) for kind in kinds for name in vars(kind) if name.startswith(_WRITING)),
        (keras.layers.Layer, "__call__", _tracking),
        (keras.random.SeedGenerator, "next", _unnoted),
        (tf.GradientTape, "gradient", _gradient),
    ]


_HOOKS = Hooks(_hooks)


def _noting(method: Method) -> Method:
    def write(variable: tf.Variable, *args: Any, **kwargs: Any) -> Any:
        writes = writes_now()
        if writes is not None:
            writes.note(variable)
        return method(variable, *args, **kwargs)

    return write


def _tracking(method: Method) -> Method:
    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        writes = writes_now()
        if writes is None:
            return method(layer, *args, **kwargs)
        writes.layers[id(layer)] = layer
        writes.calling.append(layer)
        try:
            return method(layer, *args, **kwargs)
        finally:
            writes.calling.pop()

    return call


def _gradient(method: Method) -> Method:
    def gradient(*args: Any, **kwargs: Any) -> Any:
        with gradient_computed():
            return method(*args, **kwargs)

    return gradient


def _unnoted(method: Method) -> Method:
    def draw(*args: Any, **kwargs: Any) -> Any:
        writes = writes_now()
        with contextlib.nullcontext() if writes is None or writes.seeds else writes.paused():
            return method(*args, **kwargs)

    return draw
