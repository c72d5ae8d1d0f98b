"""Another dropout mask on each replica.

Keras draws random numbers by a counter that all replicas share, so each drops the same units of its
examples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from ...optim.gradients.replicas import in_replica
from ..distribute.scope import replicas_of
from ..support.keras_private import changed_seeds

# Added to the second of a seed's two numbers, in which Keras counts draws, for each replica.
_APART = 1 << 32


@contextlib.contextmanager
def replica_seeds(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Traces the body with the replica's number in all seeds that Keras' generators give.

    The same seed gives the same masks again, and the first replica has the masks of one device. For no
    strategy or a single replica nothing changes.
    """
    if replicas_of(strategy) == 1:
        yield
        return
    with changed_seeds(_of_replica):
        yield


def _of_replica(seed: tf.Tensor) -> tf.Tensor:
    if not in_replica():
        return seed
    number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, seed.dtype)
    return seed + tf.stack([tf.zeros_like(number), number * tf.constant(_APART, seed.dtype)])
