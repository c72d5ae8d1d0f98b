"""The one place in `loops` that relies on TensorFlow's private names and the texts of its errors.

Tests hold each of them on every version.
"""

from __future__ import annotations

import contextlib
import re

import tensorflow as tf


def single_threaded() -> contextlib.AbstractContextManager[object]:
    """The context in which functions run their operations one after another, on the calling thread.

    Where TensorFlow does not offer it, nothing changes.
    """
    try:
        from tensorflow.python.eager import context

        return context.function_executor_type("SINGLE_THREADED_EXECUTOR")
    except (ImportError, AttributeError):
        return contextlib.nullcontext()


def is_missing_batch(error: Exception) -> bool:
    """Whether an error says that a batch was taken out of an optional that holds none."""
    return "optional does not have a value" in str(error)


def label_out_of_range(error: Exception) -> str | None:
    """The class index that a kernel rejected, if that is what an error says."""
    found = re.search(r"Received a label value of (-?\d+)", str(error))
    return None if found is None else found.group(1)


def iterator_not_saved(error: tf.errors.OpError) -> str | None:
    """Why the state of an iterator cannot be saved, such as `PyFunc is stateful.`; None for another error."""
    # File systems raise errors of this type too.
    if not isinstance(error, tf.errors.FailedPreconditionError) or "SerializeIterator" not in error.message:
        return None
    # The reason stands between the names of operations.
    return re.sub(r"\{\{.*?\}\} |\s*\[Op:.*", "", error.message, flags=re.DOTALL)


def reads(variable: tf.Variable) -> bool:
    """Whether the function that is being traced, or one it calls, uses a variable; True outside of any."""
    if tf.executing_eagerly():
        return True
    copies = tf.distribute.get_strategy().experimental_local_results(variable)
    handles = {id(copy.handle) for copy in copies}
    return any(id(outer) in handles for outer, _ in tf.compat.v1.get_default_graph().captures)


def length_of(iterator: tf.data.Iterator) -> int | None:
    """How many elements the dataset of an iterator has; None if that is not known."""
    dataset = getattr(iterator, "_dataset", None)
    length = -1 if dataset is None else int(dataset.cardinality())
    return None if length < 0 else length
