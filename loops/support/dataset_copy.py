"""A dataset that can be read beside another, which does not notice.

To read a dataset once more changes it: each pass of a `shuffle` takes the next seed, and a `cache` fills.
This rewrites TensorFlow's description of the dataset, for which there is no public way.
"""

from __future__ import annotations

import itertools
from typing import Any

import tensorflow as tf

from ...optim.private.tensorflow_private import node_lists

# A shuffle that takes its seeds from the dataset's generator, and one that has its own: the same inputs, the
# generator aside, and how many of them.
_SHUFFLES = {
    "ShuffleDatasetV3": ("ShuffleDataset", 4),
    "ShuffleAndRepeatDatasetV2": ("ShuffleAndRepeatDataset", 5),
}
_CACHES = ("CacheDataset", "CacheDatasetV2")


def dataset_copy(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same examples, in one order that a shuffle gives them, the same in each pass; without caches.

    Python functions that make or change examples are called for it as well. Numbers drawn from a generator
    that is a variable still move that on.

    Raises:
        ValueError: TensorFlow cannot describe the dataset, of two gigabytes in memory, say.
    """
    try:
        graph = graph_of(dataset)
        for node in itertools.chain(*node_lists(graph)):
            _rewrite(node)
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(f"TensorFlow cannot copy the dataset: {error}") from error
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def graph_of(dataset: tf.data.Dataset) -> tf.compat.v1.GraphDef:
    """TensorFlow's description of a dataset, with what it holds in memory.

    Raises a `tf.errors.OpError` or ValueError if TensorFlow cannot describe it.
    """
    ignore = tf.data.experimental.ExternalStatePolicy.IGNORE
    described = dataset._as_serialized_graph(external_state_policy=ignore).numpy()
    return tf.compat.v1.GraphDef.FromString(described)


def _rewrite(node: Any) -> None:
    if node.op in _SHUFFLES:
        node.op, inputs = _SHUFFLES[node.op]
        del node.input[inputs:]
        node.attr["reshuffle_each_iteration"].b = False
    elif node.op == "RandomDatasetV2":
        node.op = "RandomDataset"
        del node.input[2:]
        del node.attr["rerandomize_each_iteration"]
    elif node.op in _CACHES:
        node.op = "Identity"
        del node.input[1:]
        for name in list(node.attr):
            del node.attr[name]
        node.attr["T"].type = tf.variant.as_datatype_enum
