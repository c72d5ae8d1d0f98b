"""The loop that a strategy's steps run in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from ..distribute.scope import is_asynchronous
from .device_loop import DeviceLoop
from .parameter_server_loop import ParameterServerLoop

Loop: TypeAlias = DeviceLoop | ParameterServerLoop


def make_loop(
    strategy: tf.distribute.Strategy | None,
    body: Callable[[Any], list[tf.Tensor]],
    width: int,
    inline: bool,
    forward: Callable[[Any], Any],
    count: tf.Variable,
) -> Loop:
    """Returns the loop for a strategy, None for one device; the other arguments are those of `DeviceLoop`."""
    if is_asynchronous(strategy):
        return ParameterServerLoop(body, width, strategy, count)
    replicas = None if strategy is None else strategy.num_replicas_in_sync
    return DeviceLoop(body, width, inline, forward, count, replicas)
