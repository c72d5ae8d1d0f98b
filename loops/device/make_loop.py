"""The loop that a strategy's steps run in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

from ...optim.common.types import Batch, Scalar, Tensors
from ..distribute.scope import is_asynchronous
from ..support.scalars import Columns
from .device_loop import DeviceLoop
from .parameter_server_loop import ParameterServerLoop
from .read_clock import ReadClock

Loop: TypeAlias = DeviceLoop | ParameterServerLoop


def make_loop(
    strategy: tf.distribute.Strategy | None,
    body: Callable[[Batch], list[Scalar]],
    width: int,
    one_thread: bool,
    forward: Callable[[Batch], Tensors],
    count: tf.Variable,
    made_for: int | None = None,
    columns: Callable[[], Columns] = tuple,
    clock: ReadClock | None = None,
) -> Loop:
    """Returns the loop for a strategy, None for one device; the other arguments are those of `DeviceLoop`.

    `made_for` is that of each replica.
    """
    if is_asynchronous(strategy):
        return ParameterServerLoop(body, width, strategy, count, columns)
    replicas = None if strategy is None else strategy.num_replicas_in_sync
    made_for = None if made_for is None else made_for * (replicas or 1)
    return DeviceLoop(body, width, one_thread, forward, count, replicas, made_for, columns, clock)
