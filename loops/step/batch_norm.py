"""BatchNorm follows what trains, and forward-pass state survives a failed step."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

from ...optim import variable_infos


def check_synchronised(model: keras.Model, frozen: Iterable[keras.layers.Layer], replicas: int) -> None:
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
