"""Running the frozen part of a model over examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..graph.keras_graph import calls
from ..graph.split import of_cut, split_graph


def features(front: keras.Model, random: Sequence[str], batches: Iterable[Any]) -> Iterator[list[np.ndarray]]:
    """Runs the frozen part over batches: in inference mode, save its layers that augment.

    Args:
        front: the frozen part.
        random: names of its layers that augment.
        batches: nests of tensors, all of one structure.
    """
    inferred, augment = front, None
    if random:
        before: set[int] = set()
        for call in reversed(calls(front)):
            if call.operation.name in random or any(id(tensor) in before for tensor in call.outputs):
                before.update(map(id, [*call.inputs, *call.outputs]))
        parts = split_graph(front, lambda call: id(call.outputs[0]) not in before)
        augment, inferred = parts.front, parts.rest

    def run(x: Any) -> list[tf.Tensor]:
        if augment is not None:
            x = of_cut(parts, keras.tree.flatten(augment(x, training=True)), x)
        return _inferred(inferred, x)

    traced = None
    for x in batches:
        if traced is None:
            # A large network takes as long to trace as some thousand images to run: once, then, for
            # batches of any size, as the last one is smaller.
            specs = keras.tree.map_structure(_any_length, x)
            traced = tf.function(run, autograph=False).get_concrete_function(specs)
        yield [tensor.numpy() for tensor in traced(x)]


def features_of_few(front: keras.Model, batches: Iterable[Any]) -> list[np.ndarray]:
    """Runs the frozen part over few examples: without a trace, which would take longer than they do.

    Nothing is augmented, so that they come out the same each time.
    """
    made = [[tensor.numpy() for tensor in _inferred(front, x)] for x in batches]
    return [np.concatenate(some) for some in zip(*made)]


def _inferred(model: keras.Model, x: Any) -> list[tf.Tensor]:
    made = keras.tree.flatten(model(x, training=False))
    # NumPy's files know no bfloat16.
    return [tf.cast(t, tf.float32) if t.dtype == tf.bfloat16 else t for t in made]


def _any_length(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
