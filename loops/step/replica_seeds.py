"""A different dropout mask on each replica.

Keras draws random numbers from a counter that all replicas share, so all of them would drop the same units.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from ...optim.gradients.replicas import in_replica
from ..distribute.scope import replicas_of
from ..support.keras_private import transform_seeds

# Added, times the replica's number, to the second number of a seed, in which Keras counts draws.
_REPLICA_STRIDE = 1 << 32


@contextlib.contextmanager
def replica_seeds(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Traces the body with the replica's number in all seeds of Keras' generators.

    Masks stay reproducible, and the first replica has the masks of a single device. Without a strategy, or
    with one replica, nothing changes.
    """
    if replicas_of(strategy) == 1:
        yield
        return
    with transform_seeds(_replica_seed):
        yield


def _replica_seed(seed: tf.Tensor) -> tf.Tensor:
    if not in_replica():
        return seed
    number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, seed.dtype)
    return seed + tf.stack([tf.zeros_like(number), number * tf.constant(_REPLICA_STRIDE, seed.dtype)])
