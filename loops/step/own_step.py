"""What a step of one's own gets of what a `TrainStep` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import keras
import tensorflow as tf

from ...optim.gradients.replicas import replica_count, sum_over_replicas
from ..support.recording import recording, writes_now
from ..support.tensorflow_private import with_autograph
from .stateful import check_layers

P = ParamSpec("P")
Result = TypeVar("Result")


def on_a_replica(step: Callable[P, Result], ran: dict[int, keras.layers.Layer]) -> Callable[P, Result]:
    """Returns a step as it runs on each replica, or on the only device.

    run the step; an `Update` that does not take its step puts back what layers and metrics wrote
    put back weights that a layer wrote and no update trains
    average the moving statistics over replicas

    The layers that ran are added to `ran`, by `id`.
    """
    converted = with_autograph(step)

    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        each = step if tf.executing_eagerly() else converted
        if writes_now() is not None:  # it is a part of another step
            return each(*args, **kwargs)
        with recording() as writes:
            result = each(*args, **kwargs)
        ran.update(writes.layers)
        check_layers(writes.layers.values(), replica_count())
        writes.put_back_untrained()
        if replica_count() > 1:
            statistics = writes.statistics()
            for variable, total in zip(
                statistics, sum_over_replicas([*map(tf.convert_to_tensor, statistics)])
            ):
                variable.assign(total / replica_count())
        return result

    return run
