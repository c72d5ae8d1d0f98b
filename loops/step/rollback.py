"""Undoing what the forward pass of a failed step wrote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from ...optim import variable_infos


class ForwardState:
    """A copy of the state that a forward pass writes (moving statistics, metrics), taken before each step.

    The forward pass runs before anything can tell that a step is bad. With the copy, a step that failed
    leaves no trace.

    Args:
        model: a built model.
        frozen: its BatchNorm layers in inference mode, whose statistics nothing writes.
        metrics: Keras metrics that the step updates.
    """

    def __init__(
        self,
        model: keras.Model,
        frozen: Iterable[keras.layers.Layer],
        metrics: Iterable[keras.metrics.Metric] = (),
    ) -> None:
        still = {id(layer) for layer in frozen}
        self._variables = [
            info.variable.value
            for info in variable_infos(model)
            if not info.variable.trainable and info.layer.trainable and id(info.layer) not in still
        ]
        self._statistics = [variable for variable in self._variables if variable.dtype.is_floating]
        self._variables += [v.value for metric in metrics for v in metric.variables]
        # On replicas, what is one replica's own has a copy that is its own.
        self._copies = [
            tf.Variable(
                variable,
                trainable=False,
                synchronization=variable.synchronization,
                aggregation=variable.aggregation,
            )
            for variable in self._variables
        ]

    def save(self) -> list[tf.Tensor]:
        """Takes the copy, at the start of a step in its graph; returns what the step is to wait for."""
        return [copy.assign(variable) for variable, copy in zip(self._variables, self._copies)]

    def restore(self, when: Any = True) -> None:
        """Puts the copy back where `when`, a scalar bool or tensor, is true."""
        for variable, copy in zip(self._variables, self._copies):
            if when is True:
                variable.assign(copy)
            else:
                variable.assign(tf.where(when, copy, variable))

    def statistics(self) -> list[tf.Tensor]:
        """Returns what the model keeps of all batches, such as moving averages, as this replica has it."""
        return [tf.convert_to_tensor(variable) for variable in self._statistics]

    def set_statistics(self, values: Iterable[tf.Tensor]) -> None:
        """Sets what `statistics` returned, to the mean over replicas."""
        for variable, value in zip(self._statistics, values):
            variable.assign(value)
