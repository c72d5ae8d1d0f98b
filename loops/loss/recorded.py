"""Recorded scalars over replicas: what each gives to one sum, and what becomes of that."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ...optim.common.types import Scalar
from ...optim.gradients.replicas import replica_count
from ..support.scalars import Columns, RecordedScalars


def parts_of(recorded: RecordedScalars, part: Scalar, weight: Scalar) -> list[Scalar]:
    """What a replica gives to the sum over all of them: one scalar for a mean or a sum, for a maximum its own
    among zeros for the others.

    Args:
        part: the share of the batch's examples that this replica has.
        weight: what each of them counts (see `Shard`).
    """
    parts: list[Scalar] = []
    for column, value in zip(recorded.columns, recorded.values):
        if column.reduce == "max":
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            parts += [tf.where(tf.equal(number, each), value, 0.0) for each in range(replica_count())]
        else:
            parts.append(value * (part if column.reduce == "mean" else weight))
    return parts


def whole_of(columns: Columns, sums: Sequence[Scalar]) -> list[Scalar]:
    """A scalar for each column, from what `parts_of` gave, summed over replicas."""
    whole: list[Scalar] = []
    left = list(sums)
    for column in columns:
        width = replica_count() if column.reduce == "max" else 1
        each, left = left[:width], left[width:]
        whole.append(tf.reduce_max(tf.stack(each)) if width > 1 else each[0])
    return whole
