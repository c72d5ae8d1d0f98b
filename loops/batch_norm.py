"""BatchNorm follows what trains, and forward-pass state survives a failed step."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from ..optim import variable_infos


def check_synchronised(
    model: keras.Model, frozen: Iterable[keras.layers.Layer], replicas: int
) -> None:
    """Warns of BatchNorm layers that train by the statistics of one replica's examples each.

    Args:
        model: a built model.
        frozen: its BatchNorm layers that run in inference mode.
        replicas: how many train together.
    """
    still = {id(layer) for layer in frozen}
    apart = {
        info.layer.name: None
        for info in variable_infos(model)
        if isinstance(info.layer, keras.layers.BatchNormalization)
        and not info.layer.synchronized
        and id(info.layer) not in still
    }
    if apart and replicas > 1:
        names = list(apart)
        warnings.warn(
            f"BatchNormalization {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}: each of the "
            f"{replicas} replicas normalises its own part of the batch, so the numbers differ from those of "
            "one device; moving statistics are averaged over replicas after each step. Make the layers with "
            "`synchronized=True` for the numbers of one device.",
            stacklevel=2,
        )


def frozen_batch_norms(model: keras.Model, variables: Iterable[Any]) -> list[keras.layers.Layer]:
    """Returns the BatchNorm layers of `model` that must run in inference mode.

    A BatchNorm runs in training mode if one of its own variables trains. One without any (no scale, no
    center) has nothing that says so; it trains only if everything else in the model does.

    Args:
        model: a built model.
        variables: the variables that train.
    """
    chosen = {id(variable) for variable in variables}
    owned: dict[int, tuple[keras.layers.Layer, list[Any]]] = {}
    everything = True
    for info in variable_infos(model):
        trainable = info.variable.trainable
        everything = everything and (not trainable or id(info.variable) in chosen)
        if isinstance(info.layer, keras.layers.BatchNormalization):
            own = owned.setdefault(id(info.layer), (info.layer, []))[1]
            if trainable:
                own.append(info.variable)
    return [
        layer
        for layer, own in owned.values()
        if not (any(id(variable) in chosen for variable in own) if own else everything)
    ]


@contextlib.contextmanager
def inference_mode(layers: Sequence[keras.layers.Layer]) -> Iterator[None]:
    """Runs `layers` as if frozen while the body is traced, then puts `trainable` back as it was.

    Keras reads `layer.trainable` while tracing and offers no other switch that an outer call with
    `training=True` does not override (https://github.com/keras-team/keras/issues/20285).
    """
    weights = [(weight, weight.trainable) for layer in layers for weight in layer.weights]
    flags = [layer.trainable for layer in layers]
    try:
        for layer in layers:
            layer.trainable = False
        yield
    finally:
        for layer, flag in zip(layers, flags):
            layer.trainable = flag
        # The layer's setter writes all its variables alike: put each back on its own.
        for weight, trainable in weights:
            weight.trainable = trainable


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
