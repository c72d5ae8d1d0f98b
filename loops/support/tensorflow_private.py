"""Private names of TensorFlow, and the texts of its errors: in `loops` they are here alone.

Tests check each of them on every version.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import tensorflow as tf

from ...optim.private.tensorflow_private import node_lists

P = ParamSpec("P")
Result = TypeVar("Result")


def single_threaded() -> contextlib.AbstractContextManager[object]:
    """The context in which functions run their operations one after another, on the calling thread.

    In a TensorFlow without it, the context does nothing.
    """
    try:
        from tensorflow.python.eager import context

        return context.function_executor_type("SINGLE_THREADED_EXECUTOR")
    except (ImportError, AttributeError):
        return contextlib.nullcontext()


@contextlib.contextmanager
def eager_replicas() -> Iterator[None]:
    """Silences TensorFlow's warning that replicas run eagerly, where that is on purpose."""

    def is_other(record: logging.LogRecord) -> bool:
        return "eagerly has significant" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def is_missing_batch(error: Exception) -> bool:
    """Whether an error says that a `tf.experimental.Optional` held no batch, as at the end of the data."""
    return "optional does not have a value" in str(error)


def is_spec_of_none(spec: object) -> bool:
    """Whether this is the spec of a None in a dataset's elements."""
    return type(spec).__name__ == "NoneTensorSpec"


def label_out_of_range(error: Exception) -> str | None:
    """The class index that a kernel rejected, from its error; None for another error."""
    found = re.search(r"Received a label value of (-?\d+)", str(error))
    return None if found is None else found.group(1)


def lacks_summary_step(error: Exception) -> bool:
    """Whether an error says that `tf.summary` has neither a step nor a default one."""
    return "No step set." in str(error)


def is_summary_for_xla(error: Exception) -> bool:
    """Whether an error says that XLA cannot compile `tf.summary`."""
    return re.search(r"No registered 'Write\w*Summary' OpKernel for XLA", str(error)) is not None


def default_summary_writer() -> Hashable:
    """The current default writer of `tf.summary`; None without one, or while recording is off."""
    from tensorflow.python.ops import summary_ops_v2

    state = summary_ops_v2._summary_state
    return None if state.is_recording is False else state.writer


def calls_summary(function: tf.types.experimental.ConcreteFunction) -> bool:
    """Whether a function, or one that it calls, calls `tf.summary`, with or without a writer."""
    lists = node_lists(function.graph.as_graph_def())
    return any("write_summary" in node.name for nodes in lists for node in nodes)


def iterator_not_saved(error: tf.errors.OpError) -> str | None:
    """Why the state of an iterator cannot be saved, such as `PyFunc is stateful.`; None for another error."""
    # File systems raise errors of this type too.
    if not isinstance(error, tf.errors.FailedPreconditionError) or "SerializeIterator" not in error.message:
        return None
    # The reason is between the names of operations.
    return re.sub(r"\{\{.*?\}\} |\s*\[Op:.*", "", error.message, flags=re.DOTALL)


def restore_iterator(path: str, iterator: tf.data.Iterator) -> None:
    """Restores what `tf.train.Checkpoint(iterator=iterator).write(path)` saved of an iterator.

    `Checkpoint.read` would save the iterator first, which takes long where it shuffles, and which it cannot
    do where a transformation has a state that the saved one was past.

    Raises a `tf.errors.OpError` if the file cannot be read, or is of an iterator of another dataset.
    """
    name = "iterator/.ATTRIBUTES/ITERATOR_STATE"
    (state,) = tf.raw_ops.RestoreV2(
        prefix=path, tensor_names=[name], shape_and_slices=[""], dtypes=[tf.variant]
    )
    tf.raw_ops.DeserializeIterator(resource_handle=iterator._iterator_resource, serialized=state)


def reads_variable(variable: tf.Variable) -> bool:
    """Whether the function that is being traced, or one it calls, uses a variable; True while none is."""
    graph = current_graph()
    if graph is None:
        return True
    copies = tf.distribute.get_strategy().experimental_local_results(variable)
    handles = {id(copy.handle) for copy in copies}
    return any(id(outer) in handles for outer, _ in graph.captures)


def length_of(iterator: tf.data.Iterator) -> int | None:
    """The number of elements of an iterator's dataset; None if it is unknown."""
    dataset = dataset_of(iterator)
    length = -1 if dataset is None else int(dataset.cardinality())
    return None if length < 0 else length


def dataset_of(iterator: tf.data.Iterator) -> tf.data.Dataset | None:
    """The dataset that an iterator reads; None if it is unknown."""
    return getattr(iterator, "_dataset", None)


def current_graph() -> tf.Graph | None:
    """The graph that is being traced; None for eager execution."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def spec_of(value: object) -> tf.TypeSpec | None:
    """The spec of a tensor or a composite tensor, for which a function is traced; None for other values."""
    if isinstance(value, tf.Tensor):
        return tf.TensorSpec(value.shape, value.dtype)
    composite = isinstance(value, tf.__internal__.CompositeTensor) and not isinstance(value, tf.Variable)
    return tf.type_spec_from_value(value) if composite else None


@contextlib.contextmanager
def scratch_graph() -> Iterator[None]:
    """A graph for the body's operations, which never run. Variables that are made in it exist at once."""
    with tf.__internal__.FuncGraph("scratch_graph").as_default(), tf.summary.record_if(False):
        yield


def is_vectorized() -> bool:
    """Whether `tf.vectorized_map`, or a Jacobian, is tracing its function, as for the first row.

    It traces into the graph around it, so only the name scope shows it.
    """
    return re.search(r"(^|/)loop_body(_\d+)?(/|$)", tf.get_current_name_scope()) is not None


def run_before(operations: Sequence[tf.Operation], tensors: Sequence[tf.Tensor]) -> None:
    """Makes all consumers of `tensors` so far wait for `operations`, by control dependencies in one graph."""
    waiting = {operation for tensor in tensors for operation in tensor.consumers()}
    for operation in waiting.difference(operations) if operations else ():
        operation._add_control_inputs(operations)


def without_autograph(function: Callable[P, Result]) -> Callable[P, Result]:
    """Excludes a function, and what it calls, from AutoGraph: converting gradloop's takes many seconds."""
    return tf.autograph.experimental.do_not_convert(function)


def with_autograph(function: Callable[P, Result]) -> Callable[P, Result]:
    """Converts a function by AutoGraph as `tf.function` does: its conditions and loops may use tensors."""
    context = tf.__internal__.autograph.control_status_ctx()
    return tf.__internal__.autograph.tf_convert(function, context, user_requested=True)


@contextlib.contextmanager
def temporary_eager_seeds() -> Iterator[None]:
    """Draws the seeds of eager random operations in the body from another generator, restored afterwards.

    The seeds must differ from those drawn later: TensorFlow keeps a kernel for each seed, and its counter.
    """
    from tensorflow.python.eager import context

    seeds = getattr(context.context(), "_rng", None)  # None before `tf.random.set_seed`
    if seeds is not None:
        context.context()._rng = random.Random(0)
    try:
        yield
    finally:
        if seeds is not None:
            context.context()._rng = seeds


def global_generator() -> tf.random.Generator | None:
    """TensorFlow's global generator; None if there is none yet (`get_global_generator` would make one)."""
    from tensorflow.python.ops import stateful_random_ops

    return stateful_random_ops.global_generator


def call_traced(function: tf.types.experimental.ConcreteFunction, *arguments: Any) -> Any:
    """`function(*arguments)` without a check that the arguments fit the trace: the caller knows that they do.

    The check takes TensorFlow longer than starting the function. In a TensorFlow without this, it is made.
    """
    if not hasattr(function, "_call_flat"):
        return function(*arguments)
    leaves = tf.nest.flatten(arguments, expand_composites=True)
    return function._call_flat([leaf for leaf in leaves if leaf is not None], function.captured_inputs)
