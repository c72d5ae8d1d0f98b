"""Records the outputs of layers while some code runs or is traced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from .method_hooks import Hooks, Method
from .tensorflow_private import current_graph

# A layer's `id` -> the first floating tensor of each of its calls, in order.
Outputs: TypeAlias = dict[int, list[tf.Tensor]]

_by_thread: dict[int, Outputs] = {}


@contextlib.contextmanager
def record_layer_outputs(layers: Iterable[keras.layers.Layer]) -> Iterator[Outputs]:
    """Records the outputs of layers in the body, on this thread: each replica has a thread.

    A layer that runs within a loop or a condition of another one (an RNN's cell) has no outputs here, since
    its tensors cannot be used outside of that.
    """
    thread, graph = threading.get_ident(), current_graph()
    outputs: Outputs = {id(layer): [] for layer in layers}
    with _HOOKS.installed():
        _by_thread[thread] = outputs
        try:
            yield outputs
        finally:
            del _by_thread[thread]
    for layer, tensors in outputs.items():
        if graph is not None and not all(tensor.graph is graph for tensor in tensors):
            outputs[layer] = []  # Keras also calls a cell once before its loop


def _record_output(method: Method) -> Method:
    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        result = method(layer, *args, **kwargs)
        outputs = _by_thread.get(threading.get_ident(), {}).get(id(layer))
        if outputs is not None:
            floats = [t for t in tf.nest.flatten(result) if isinstance(t, tf.Tensor) and t.dtype.is_floating]
            outputs += floats[:1]
        return result

    return call


_HOOKS = Hooks(lambda: [(keras.layers.Layer, "__call__", _record_output)])
