"""Whether the elements of a dataset come in the same order in each process.

TensorFlow has no public way to ask which transformations a dataset consists of. A test holds each on every
version. What a Python generator does, or a program before it makes the dataset, cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.random_seed import DEFAULT_GRAPH_SEED

from ...optim.private.tensorflow_private import node_lists

_FILTERS = ("FilterDataset", "TakeWhile")


def nondeterminism_and_seeds(dataset: tf.data.Dataset) -> tuple[list[str], list[tuple[int, ...]]]:
    """Returns what in a dataset has no fixed order, in words, and the seeds that fix that of the rest."""
    loose: list[str] = []
    seeds: list[tuple[int, ...]] = []
    kinds: set[str] = set()
    draws = False
    for part in _parts(dataset):
        kind = type(part).__name__.strip("_")
        kinds.add(kind)
        if hasattr(part, "_seed2"):
            pair = int(part._seed), int(part._seed2)
            seeds.append(pair)
            if pair == (0, 0):
                drawn = "`sample_from_datasets` or `Dataset.random`" if "Random" in kind else "`shuffle`"
                loose.append(f"a {drawn} without a seed")
        if getattr(part, "_deterministic", None) == "false":
            loose.append("a transformation with `deterministic=False`")
        for function in part._functions():
            for node, inputs in _nodes(function.function.graph.as_graph_def()):
                if "Shuffle" in node.op and "Dataset" in node.op:
                    numbers = [number for number in inputs if number is not None]
                    seeds.append(tuple(numbers))
                    if numbers.count(0) > 1:
                        loose.append("a `shuffle` without a seed, in a function of it,")
                if _says_no_order(node):
                    loose.append("a transformation with `deterministic=False`, in a function of it,")
                unseeded = "seed2" in node.attr and not (node.attr["seed"].i or node.attr["seed2"].i)
                draws = draws or (unseeded and "Random" in node.op)
    if draws and any(kind.startswith(_FILTERS) for kind in kinds):
        loose.append("a `filter` or `rejection_resample` by random numbers without a seed")
    if "ParallelInterleaveDataset" in kinds and _interleaves_in_no_order(dataset):
        loose.append("an `interleave` with `deterministic=False`")
    return loose, seeds


def changes_when_read(dataset: tf.data.Dataset) -> bool:
    """Whether reading a dataset changes what its next reader gets: it shuffles by seeds or keeps a cache."""
    cached = any("Cache" in type(part).__name__ for part in _parts(dataset))
    return cached or bool(nondeterminism_and_seeds(dataset)[1])


def may_draw_seeds(dataset: tf.data.Dataset) -> bool:
    """Whether a pass of a dataset may draw seeds from what outlives it; False if it surely does not."""
    for part in _parts(dataset):
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
    mixed = [part for part in _parts(dataset) if type(part).__name__ == "_DirectedInterleaveDataset"]
    mixed = [part for part in mixed if _has_no_end(part._selector_input) and not part._stop_on_empty_dataset]
    return any(not any(map(_has_no_end, part._data_inputs)) for part in mixed)


def _has_no_end(dataset: tf.data.Dataset) -> bool:
    return bool(dataset.cardinality() == tf.data.INFINITE_CARDINALITY)


def variables_in(dataset: tf.data.Dataset) -> list[tf.Variable]:
    """The variables that the functions of a dataset use: states of random layers and generators, say."""
    functions = [function for part in _parts(dataset) for function in part._functions()]
    found = [variable for function in functions for variable in function.function.variables]
    return list({id(variable): variable for variable in found}.values())


def batch_sizes(dataset: tf.data.Dataset) -> list[int]:
    """How many elements each `batch` in a dataset takes together."""
    sizes = [tf.get_static_value(getattr(part, "_batch_size", None)) for part in _parts(dataset)]
    return [int(size) for size in sizes if size is not None]


def tensors_of(dataset: tf.data.Dataset) -> list[tf.Tensor]:
    """The tensors that a dataset is made from: those of `from_tensor_slices` and `from_tensors`."""
    held = [tensor for part in _parts(dataset) for tensor in getattr(part, "_tensors", ())]
    return [tensor for tensor in held if tensor.dtype not in (tf.variant, tf.resource)]


def own_seeds(dataset: tf.data.Dataset) -> list[int] | None:
    """The seeds that its shuffles were given; None where one was given none.

    With a seed of the whole process TensorFlow gives those a seed, by what has run before.
    """
    pairs = [pair for pair in nondeterminism_and_seeds(dataset)[1] if pair != (0, 0)]
    if nondeterminism_and_seeds(dataset)[0] or any(pair[0] != DEFAULT_GRAPH_SEED for pair in pairs):
        return None
    return [number for pair in pairs for number in pair[1:]]


def process_seeds(dataset: tf.data.Dataset) -> list[int]:
    """The seeds of the process, as `tf.random.set_seed` sets them, that its shuffles use beside their own."""
    return sorted(
        {pair[0] for pair in nondeterminism_and_seeds(dataset)[1] if len(pair) == 2 and pair != (0, 0)}
    )


def _parts(dataset: tf.data.Dataset) -> Iterator[Any]:
    """A dataset and all that it is made from."""
    waiting, seen = [dataset], set()
    while waiting:
        part = waiting.pop()
        part = getattr(part, "_dataset", part)  # TensorFlow wraps some
        if id(part) not in seen:
            seen.add(id(part))
            waiting.extend(part._inputs())
            yield part


def _nodes(graph: tf.compat.v1.GraphDef) -> Iterator[tuple[Any, list[int | None]]]:
    """The nodes of a graph and of the functions in it, with the integers among their inputs."""
    for nodes in node_lists(graph):
        constants = {node.name: node for node in nodes if node.op == "Const"}
        for node in nodes:
            inputs = [constants.get(name.lstrip("^").split(":")[0]) for name in node.input]
            yield node, [None if one is None else _integer(one) for one in inputs]


def _integer(constant: Any) -> int | None:
    if not tf.as_dtype(constant.attr["value"].tensor.dtype).is_integer:  # a shuffle's generator is a resource
        return None
    value = tf.make_ndarray(constant.attr["value"].tensor)
    return int(value) if value.ndim == 0 and value.dtype.kind in "iu" else None


def _interleaves_in_no_order(dataset: tf.data.Dataset) -> bool:
    """Whether a parallel interleave has `deterministic=False`, which no attribute of the dataset says."""
    try:
        graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    except (tf.errors.OpError, ValueError):  # one that TensorFlow cannot write
        return False
    return any(_says_no_order(node) for node, _ in _nodes(graph))


def _says_no_order(node: Any) -> bool:
    return "deterministic" in node.attr and node.attr["deterministic"].s == b"false"
