"""Another dropout mask on each replica.

Keras draws random numbers by a counter that all replicas share, so each drops the same units of its
examples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from ...optim.gradients.replicas import in_replica
from ...optim.naming.stable_names import tree_of
from ..support.keras_private import changed_seeds

# Added to the second of a seed's two numbers, in which Keras counts draws, for each replica.
_APART = 1 << 32


@contextlib.contextmanager
def replica_seeds(model: keras.Model, strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Traces the body with the replica's number in the seeds of the model's layers.

    The same seed gives the same masks again, and the first replica has the masks of one device. Layers
    without a seed generator are left as they are, and so are all for no strategy or a single replica.
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
    with changed_seeds(list(generators.values()), _of_replica):
        yield


def _of_replica(seed: tf.Tensor) -> tf.Tensor:
    if not in_replica():
        return seed
    number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, seed.dtype)
    return seed + tf.stack([tf.zeros_like(number), number * tf.constant(_APART, seed.dtype)])
