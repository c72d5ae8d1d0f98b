"""Restoring the state that the forward pass of a failed step wrote."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

from ...optim import variable_infos
from ...optim.common.types import Scalar


class ForwardState:
    """A copy of the state that a forward pass writes (moving statistics, metrics), taken before each step.

    The forward pass runs before it is known whether the step is bad; the copy restores what it wrote. Left
    out are the statistics of `frozen`, the BatchNorm layers in inference mode.
    """

    def __init__(
        self,
        model: keras.Model,
        frozen: Iterable[keras.layers.Layer],
        metrics: Iterable[keras.metrics.Metric] = (),
    ) -> None:
        in_inference = {id(layer) for layer in frozen}
        self._variables = [
            info.variable.value
            for info in variable_infos(model)
            if not info.variable.trainable and info.layer.trainable and id(info.layer) not in in_inference
        ]
        self._statistics = [variable for variable in self._variables if variable.dtype.is_floating]
        self._variables += [v.value for metric in metrics for v in metric.variables]
        # Where each replica has its own value, it has its own copy.
        self._copies = [
            tf.Variable(v, trainable=False, synchronization=v.synchronization, aggregation=v.aggregation)
            for v in self._variables
        ]

    def save(self) -> list[tf.Tensor]:
        """Makes the copy; returns the operations that the rest of the step must wait for."""
        return [copy.assign(variable) for variable, copy in zip(self._variables, self._copies)]

    def restore(self, when: bool | Scalar = True) -> None:
        """Assigns the copy back if `when` is true."""
        for variable, copy in zip(self._variables, self._copies):
            variable.assign(copy if when is True else tf.where(when, copy, variable))

    def statistics(self) -> list[tf.Tensor]:
        """Returns this replica's values of moving averages and the like."""
        return [tf.convert_to_tensor(variable) for variable in self._statistics]

    def set_statistics(self, values: Iterable[tf.Tensor]) -> None:
        """Assigns the variables whose values `statistics` returns."""
        for variable, value in zip(self._statistics, values):
            variable.assign(value)
