"""Whether the order of a dataset is deterministic: the same in each process that reads it.

TensorFlow has no public way to list the transformations of a dataset, so this reads private attributes; tests
check each of them on every version. A Python generator, or a program that shuffles files before it makes the
dataset, cannot be looked into.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.random_seed import DEFAULT_GRAPH_SEED

from ...optim.private.tensorflow_private import node_lists

_FILTERS = ("FilterDataset", "TakeWhile")


def nondeterminism_and_seeds(dataset: tf.data.Dataset) -> tuple[list[str], list[tuple[int, ...]]]:
    """Returns a dataset's nondeterministic transformations, for messages, and the seeds of the others."""
    unordered: list[str] = []
    seeds: list[tuple[int, ...]] = []
    kinds: set[str] = set()
    draws_unseeded = False
    for part in _transformations(dataset):
        kind = type(part).__name__.strip("_")
        kinds.add(kind)
        if hasattr(part, "_seed2"):
            pair = int(part._seed), int(part._seed2)
            seeds.append(pair)
            if pair == (0, 0):
                drawn = "`sample_from_datasets` or `Dataset.random`" if "Random" in kind else "`shuffle`"
                unordered.append(f"a {drawn} without a seed")
        if getattr(part, "_deterministic", None) == "false":
            unordered.append("a transformation with `deterministic=False`")
        for function in part._functions():
            for node, inputs in _nodes(function.function.graph.as_graph_def()):
                if "Shuffle" in node.op and "Dataset" in node.op:
                    numbers = [number for number in inputs if number is not None]
                    seeds.append(tuple(numbers))
                    if numbers.count(0) > 1:
                        unordered.append("a `shuffle` without a seed, in a function of it,")
                if _is_nondeterministic(node):
                    unordered.append("a transformation with `deterministic=False`, in a function of it,")
                unseeded = "seed2" in node.attr and not (node.attr["seed"].i or node.attr["seed2"].i)
                draws_unseeded = draws_unseeded or (unseeded and "Random" in node.op)
    if draws_unseeded and any(kind.startswith(_FILTERS) for kind in kinds):
        unordered.append("a `filter` or `rejection_resample` by random numbers without a seed")
    if "ParallelInterleaveDataset" in kinds and _interleaves_nondeterministically(dataset):
        unordered.append("an `interleave` with `deterministic=False`")
    return unordered, seeds


def changes_when_read(dataset: tf.data.Dataset) -> bool:
    """Whether a pass over a dataset changes the next: it has a shuffle, whose seeds advance, or a cache."""
    cached = any("Cache" in type(part).__name__ for part in _transformations(dataset))
    return cached or bool(nondeterminism_and_seeds(dataset)[1])


def may_draw_seeds(dataset: tf.data.Dataset) -> bool:
    """Whether a pass of a dataset may draw seeds from what outlives it; False if it surely does not."""
    for part in _transformations(dataset):
        captured = [tensor for one in part._functions() for tensor in one.function.captured_inputs]
        unseen = type(part).__name__ == "_VariantDataset" or any(one.dtype == tf.variant for one in captured)
        if (
            unseen
            or hasattr(part, "_seed2")
            and getattr(part, "_reshuffle_each_iteration", True) is not False
        ):
            return True
    return False


def never_ends_if_restored(dataset: tf.data.Dataset) -> bool:
    """Whether a restored iterator of a dataset may read for ever.

    TensorFlow forgets how many of those that `sample_from_datasets` draws from had ended, and waits for more.
    """
    mixed = [
        part for part in _transformations(dataset) if type(part).__name__ == "_DirectedInterleaveDataset"
    ]
    mixed = [part for part in mixed if _has_no_end(part._selector_input) and not part._stop_on_empty_dataset]
    return any(not any(map(_has_no_end, part._data_inputs)) for part in mixed)


def _has_no_end(dataset: tf.data.Dataset) -> bool:
    return bool(dataset.cardinality() == tf.data.INFINITE_CARDINALITY)


def variables_in(dataset: tf.data.Dataset) -> list[tf.Variable]:
    """The variables that a dataset's functions use, such as the states of random layers and generators."""
    functions = [function for part in _transformations(dataset) for function in part._functions()]
    found = [variable for function in functions for variable in function.function.variables]
    return list({id(variable): variable for variable in found}.values())


def batch_sizes(dataset: tf.data.Dataset) -> list[int]:
    """The batch size of each `batch` in a dataset."""
    sizes = [tf.get_static_value(getattr(part, "_batch_size", None)) for part in _transformations(dataset)]
    return [int(size) for size in sizes if size is not None]


def tensors_of(dataset: tf.data.Dataset) -> list[tf.Tensor]:
    """The tensors that `from_tensor_slices` and `from_tensors` in a dataset were given."""
    held = [tensor for part in _transformations(dataset) for tensor in getattr(part, "_tensors", ())]
    return [tensor for tensor in held if tensor.dtype not in (tf.variant, tf.resource)]


def own_seeds(dataset: tf.data.Dataset) -> list[int] | None:
    """The seeds that a dataset's shuffles were given; None where a shuffle was given none.

    If `tf.random.set_seed` was called, TensorFlow chooses a seed for such a shuffle; it depends on what has
    run before.
    """
    pairs = [pair for pair in nondeterminism_and_seeds(dataset)[1] if pair != (0, 0)]
    if nondeterminism_and_seeds(dataset)[0] or any(pair[0] != DEFAULT_GRAPH_SEED for pair in pairs):
        return None
    return [number for pair in pairs for number in pair[1:]]


def process_seeds(dataset: tf.data.Dataset) -> list[int]:
    """The seeds set by `tf.random.set_seed` that a dataset's shuffles use, besides their own."""
    return sorted(
        {pair[0] for pair in nondeterminism_and_seeds(dataset)[1] if len(pair) == 2 and pair != (0, 0)}
    )


def _transformations(dataset: tf.data.Dataset) -> Iterator[Any]:
    """A dataset and all datasets that it is made from, one for each transformation."""
    waiting, seen = [dataset], set()
    while waiting:
        part = waiting.pop()
        part = getattr(part, "_dataset", part)  # TensorFlow wraps some
        if id(part) not in seen:
            seen.add(id(part))
            waiting.extend(part._inputs())
            yield part


def _nodes(graph: tf.compat.v1.GraphDef) -> Iterator[tuple[Any, list[int | None]]]:
    """The nodes of a graph and its functions, each with its inputs: constant integers, None for any other."""
    for nodes in node_lists(graph):
        constants = {node.name: node for node in nodes if node.op == "Const"}
        for node in nodes:
            inputs = [constants.get(name.lstrip("^").split(":")[0]) for name in node.input]
            yield node, [None if constant is None else _integer(constant) for constant in inputs]


def _integer(constant: Any) -> int | None:
    if not tf.as_dtype(constant.attr["value"].tensor.dtype).is_integer:  # a shuffle's generator is a resource
        return None
    value = tf.make_ndarray(constant.attr["value"].tensor)
    return int(value) if value.ndim == 0 and value.dtype.kind in "iu" else None


def _interleaves_nondeterministically(dataset: tf.data.Dataset) -> bool:
    """Whether a parallel interleave has `deterministic=False`, which only the serialized graph says."""
    try:
        graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    except (tf.errors.OpError, ValueError):  # one that TensorFlow cannot write
        return False
    return any(_is_nondeterministic(node) for node, _ in _nodes(graph))


def _is_nondeterministic(node: Any) -> bool:
    return "deterministic" in node.attr and node.attr["deterministic"].s == b"false"
