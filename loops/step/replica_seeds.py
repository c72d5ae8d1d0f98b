"""Dropout masks of its own for each replica.

Keras draws random numbers by a counter that all replicas share, so each drops the same units of its
examples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from ...optim.naming.stable_names import tree_of

# Seeds of replicas are this far apart in the second of a seed's two numbers, in which Keras counts draws.
_APART = 1 << 32


@contextlib.contextmanager
def replica_seeds(model: keras.Model, strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Traces the body with the replica's number in the seed of whatever the model's layers draw.

    The masks of a replica are the same again for the same seed, and those of the first one are those of one
    device. A layer that draws without a generator of its own keeps Keras' way.

    Args:
        model: a built model.
        strategy: nothing is done for None, or for a single replica.
    """
    if strategy is None or strategy.num_replicas_in_sync == 1:
        yield
        return
    generators = {
        id(value): value
        for node in tree_of(model).nodes
        for value in vars(node.layer).values()
        if isinstance(value, keras.random.SeedGenerator)
    }
    for generator in generators.values():
        # Found before the method of the class, which stays as it is.
        vars(generator)["next"] = _of_replica(generator.next)
    try:
        yield
    finally:
        for generator in generators.values():
            del vars(generator)["next"]


def _of_replica(draw: Any) -> Any:
    def next_seed(ordered: bool = True) -> tf.Tensor:
        seed = tf.convert_to_tensor(draw(ordered=ordered))
        if not (tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()):
            return seed
        number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, seed.dtype)
        return seed + tf.stack([tf.zeros_like(number), number * tf.constant(_APART, seed.dtype)])

    return next_seed
