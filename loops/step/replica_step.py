"""A step of one's own as it runs on each replica: restored state, averaged statistics, recorded scalars."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import ParamSpec, TypeVar

import keras
import tensorflow as tf

from ...optim.common.types import Scalar, Tensors
from ...optim.gradients.replicas import replica_count, sum_over_replicas
from ..distribute.sharding import examples_in, share_of, total_over_replicas
from ..loss.recorded import parts_of, whole_of
from ..support.record_writes import active_writes, record_writes
from ..support.scalars import RecordedScalars, collect_scalars, is_recording
from ..support.tensorflow_private import with_autograph
from .stateful import check_layers

P = ParamSpec("P")
Result = TypeVar("Result")


def replica_step(step: Callable[P, Result], ran: dict[int, keras.layers.Layer]) -> Callable[P, Result]:
    """Returns a step as it runs on each replica, or on the only device.

        run the step; an `Update` that skips it restores what layers and metrics wrote
        restore weights that a layer wrote and no update trains
        average the moving statistics over replicas
        add the values given to `record` to the dict that the step returns

    The layers that ran are added to `ran`, by `id`.
    """
    converted = with_autograph(step)
    reduces: dict[str, str] = {}  # the reduction of each recorded value, by name

    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        each = step if tf.executing_eagerly() else converted
        if active_writes() is not None:  # called inside of another step
            return each(*args, **kwargs)
        inside = is_recording()  # of another step, which gets the recorded values
        with record_writes() as writes, nullcontext() if inside else collect_scalars((), reduces) as recorded:
            result = each(*args, **kwargs)
        ran.update(writes.layers)
        check_layers(writes.layers.values(), replica_count())
        writes.restore_untrained_weights()
        if replica_count() > 1:
            statistics = writes.statistics()
            for variable, total in zip(
                statistics, sum_over_replicas([*map(tf.convert_to_tensor, statistics)])
            ):
                variable.assign(total / replica_count())
        return result if recorded is None else add_recorded(result, recorded, (args, kwargs))

    return run


def add_recorded(result: Result, recorded: RecordedScalars, arguments: Tensors) -> Result:
    """The dict that a step returned on a replica, with its recorded values: scalars that `replicated` sums.

    Raises:
        ValueError: the step returned no dict, or one with a name that was recorded.
    """
    columns = recorded.columns
    if not columns:
        return result
    name = columns[0].name
    if not isinstance(result, dict):
        raise ValueError(
            f"`record` was called with the name {name!r} in a step that returns {type(result).__name__}, and "
            "what is recorded is added to the dict that a step returns: return one, such as `{'loss': loss}`."
        )
    if taken := [column.name for column in columns if column.name in result]:
        raise ValueError(
            f"`record` was called with the name {taken[0]!r}, which is in the dict that the step returns: "
            "choose another, or leave it out of the dict."
        )
    values = recorded.values if replica_count() == 1 else _on_first_replica(recorded, arguments)
    named = dict(zip((column.name for column in columns), values))
    return {**result, **named}  # type: ignore[return-value]  # a dict, as the result is


def _on_first_replica(recorded: RecordedScalars, arguments: Tensors) -> list[Scalar]:
    """The reduced values on the first replica, 0 on the others, so that a sum gives the values."""
    arrays = [value for value in tf.nest.flatten(arguments) if len(getattr(value, "shape", ()))]
    weight = share_of(tf.constant(1.0))
    count = tf.cast(examples_in(arrays), tf.float32) * weight if arrays else weight
    sums = tf.unstack(total_over_replicas(tf.stack([count, *parts_of(recorded, count, weight)])))
    whole = whole_of(recorded.columns, sums[1:])
    values = [
        value / sums[0] if column.reduce == "mean" else value
        for value, column in zip(whole, recorded.columns)
    ]
    first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
    return [tf.where(first, value, 0.0) for value in values]
