"""Extraction: running the frozen part of a model over examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.types import Array, Tensors
from ..graph.keras_graph import calls
from ..graph.split import split_graph


def features(
    front: keras.Model, augmenting: Sequence[str], batches: Iterable[Tensors]
) -> Iterator[list[Array]]:
    """Runs the frozen part over batches: in inference mode, except for its layers named in `augmenting`."""
    network, augmentation = front, None
    if augmenting:
        up_to_last: set[int] = set()  # ids of the tensors up to the last augmentation
        for call in reversed(calls(front)):
            if call.operation.name in augmenting or any(id(tensor) in up_to_last for tensor in call.outputs):
                up_to_last.update(map(id, [*call.inputs, *call.outputs]))
        parts = split_graph(front, lambda call: id(call.outputs[0]) not in up_to_last)
        augmentation, network = parts.front, parts.rest

    def run(x: Tensors) -> list[tf.Tensor]:
        if augmentation is not None:
            x = parts.rest_inputs(keras.tree.flatten(augmentation(x, training=True)), x)
        return _inference(network, x)

    traced = None
    for x in batches:
        if traced is None:
            # Traced once, for batches of any size: the last one is smaller, and tracing a large network
            # takes as long as running it on a thousand images.
            specs = keras.tree.map_structure(_any_batch_size, x)
            traced = tf.function(run, autograph=False).get_concrete_function(specs)
        yield [tensor.numpy() for tensor in traced(x)]


def features_of_few(front: keras.Model, batches: Iterable[Tensors]) -> list[Array]:
    """Runs the frozen part over a few examples, without tracing, which would take longer than running them.

    Nothing is augmented, so the features are the same each time.
    """
    computed = [[tensor.numpy() for tensor in _inference(front, x)] for x in batches]
    return [np.concatenate(batches_of_one) for batches_of_one in zip(*computed)]


def _inference(model: keras.Model, x: Tensors) -> list[tf.Tensor]:
    outputs = keras.tree.flatten(model(x, training=False))
    # NumPy's files cannot hold bfloat16.
    return [tf.cast(t, tf.float32) if t.dtype == tf.bfloat16 else t for t in outputs]


def _any_batch_size(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
