"""Which TensorFlow executor runs a small model's device loop.

TensorFlow's default executor hands ready operations to a pool of threads. For a network of a few small
matrix products the hand-over costs more than the arithmetic: on two CPU cores a 784-10 softmax step takes
a third less time when one thread runs its operations in turn. A convolution splits its own work over the
cores and gains nothing, so it keeps the default.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ...optim import variable_infos

# Above this many weights a step is arithmetic rather than overhead.
SMALL_MODEL_WEIGHTS = 200_000


def runs_inline(model: keras.Model) -> bool:
    """Whether `model`'s steps should run on one thread: dense, small, and on a machine without accelerators.

    The numbers are the same either way; only the time differs.
    """
    if len(tf.config.list_logical_devices()) != 1:
        return False
    infos = variable_infos(model)
    dense = all(len(info.variable.shape) <= 2 for info in infos)
    return dense and sum(info.variable.shape.num_elements() for info in infos) <= SMALL_MODEL_WEIGHTS


def _function_executor_type() -> Callable[[str], Any] | None:
    """TensorFlow's context manager that picks the executor: it has no public name (held by a test)."""
    try:
        from tensorflow.python.eager import context
    except ImportError:
        return None
    return getattr(context, "function_executor_type", None)


def executor(inline: bool) -> contextlib.AbstractContextManager[Any]:
    """Returns the context in which a device loop is traced and called.

    Args:
        inline: run operations one after another on the calling thread. Where TensorFlow does not offer it,
            the default executor is used, as it is where functions run eagerly: nobody has looked then at
            what the step calls (see `nests_calls`).
    """
    train_as_saved = _function_executor_type() if inline and not tf.config.functions_run_eagerly() else None
    return train_as_saved("SINGLE_THREADED_EXECUTOR") if train_as_saved else contextlib.nullcontext()


# Operations that call a function and wait for it.
_CALLS = {"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"}
_CALLS |= {"PartitionedCall", "StatefulPartitionedCall"}


def nests_calls(function: Any) -> bool:
    """Whether the functions that a concrete function calls, such as its loop's body, call others in turn.

    On one thread, such an operation holds the thread that the function under it may need, for ever.

    Args:
        function: a `tf.types.experimental.ConcreteFunction`.
    """
    graph = function.graph.as_graph_def()
    if any(node.op in _CALLS - {"While", "StatelessWhile"} for node in graph.node):
        return True
    return any(node.op in _CALLS for inner in graph.library.function for node in inner.node_def)
