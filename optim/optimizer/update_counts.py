"""How many updates each variable has had, where that matters: for bias correction and for averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from ..groups.plan import Plan
from ..updates.base import GroupedVariable, Updater
from .named_state import StateError


class UpdateCounts:
    """The counts of all variables: on the device, and by stable name for files.

    Fused updaters share a vector with a count for each variable of the plan, in its order. A Keras optimizer
    counts for all of its variables together.
    """

    def __init__(self, plan: Plan, members: Sequence[GroupedVariable], updaters: Sequence[Updater]) -> None:
        self._groups = list(plan.groups)
        self._members = members
        self._counting = [(u, u.own_count) for u in updaters if u.own_count is not None]
        self._vector: keras.Variable | None = None
        if any(updater.needs_update_counts for updater in updaters):
            zeros = np.zeros(len(members), "int64")
            self._vector = keras.Variable(
                zeros, trainable=False, aggregation="only_first_replica", name="updates"
            )

    def variables(self) -> dict[str, keras.Variable]:
        """Every counter by name."""
        found = {} if self._vector is None else {"updates": self._vector}
        return found | {f"{updater.members[0].name}/updates": count for updater, count in self._counting}

    def by_name(self) -> dict[str, int]:
        """The counts now, by stable name."""
        found: dict[str, int] = {}
        if self._vector is not None:
            found.update(zip((member.name for member in self._members), self._vector.numpy().tolist()))
        for updater, count in self._counting:
            found.update(dict.fromkeys((member.name for member in updater.members), int(count.numpy())))
        return found

    def restore(self, saved: Mapping[str, int], partial: bool) -> None:
        """Sets the counts to those of a checkpoint; what it does not name stays as it is.

        Raises:
            StateError: variables that are counted together have had different numbers of updates, and
                `partial` is false.
        """
        largest = []
        for updater, count in self._counting:
            counts = {saved[member.name] for member in updater.members if member.name in saved}
            if len(counts) > 1 and not partial:
                raise StateError(
                    "the checkpoint is of another plan: the variables of group "
                    f"{self._groups[updater.members[0].group]!r} have had {sorted(counts)} updates, and its "
                    "optimizer counts for all of them; load within `with optimizer.partial_load():` to take "
                    "the largest count"
                )
            if counts:
                largest.append((count, max(counts)))
        for count, value in largest:
            count.assign(value)
        if self._vector is not None:
            now = zip(self._members, self._vector.numpy().tolist())
            self._vector.assign([saved.get(member.name, count) for member, count in now])

    def after(self, updated: Sequence[GroupedVariable], active: tf.Tensor | None) -> tf.Tensor | None:
        """The vector after an update of some variables: (variables of the plan,) int64; None without one.

        `active` is (groups,) bool, which of them train; None if all of `updated` do.
        """
        if self._vector is None:
            return None
        indices = {member.index for member in updated}
        new = tf.constant([int(index in indices) for index in range(len(self._members))], tf.int64)
        if active is not None:
            new *= tf.cast(tf.gather(active, [member.group for member in self._members]), tf.int64)
        return self._vector.value + new

    def assign(self, counts: tf.Tensor | None) -> None:
        """Sets the vector to what `after` returned."""
        if self._vector is not None:
            self._vector.value.assign(counts)
