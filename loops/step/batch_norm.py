"""Runs frozen BatchNorm layers, whose statistics training mode would change, in inference mode."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras

from ...optim import variable_infos
from ...optim.common.messages import first_few
from ...optim.common.types import Tensors
from ...optim.naming.stable_names import tree_of


def check_synchronised(model: keras.Model, frozen: Iterable[keras.layers.Layer], replicas: int) -> None:
    """Warns of BatchNorm layers, except `frozen` ones, that normalise on each replica separately."""
    in_inference = {id(layer) for layer in frozen}
    names = {
        info.layer.name: None
        for info in variable_infos(model)
        if isinstance(info.layer, keras.layers.BatchNormalization)
        and not info.layer.synchronized
        and id(info.layer) not in in_inference
    }
    if names and replicas > 1:
        warnings.warn(
            f"BatchNormalization {first_few(list(names), 3)}: each of the "
            f"{replicas} replicas normalises its own part of the batch, so the numbers differ from those of "
            "one device; moving statistics are averaged over replicas after each step. Make the layers with "
            "`synchronized=True` for the numbers of one device.",
            stacklevel=2,
        )


def frozen_norms(model: keras.Model, variables: Iterable[keras.Variable]) -> list[keras.layers.Layer]:
    """Returns the layers of `model` that must run in inference mode while `variables` train.

    A BatchNorm runs in training mode if one of its variables trains. One without trainable variables (no
    scale, no center) does so only if everything else in the model trains. A SpectralNormalization, which in
    training mode writes the kernel of the layer in it, does so if that kernel trains.
    """
    chosen = {id(variable) for variable in variables}
    norms: dict[int, tuple[keras.layers.Layer, list[keras.Variable]]] = {}
    everything = True
    for info in variable_infos(model):
        trainable = info.variable.trainable
        everything = everything and (not trainable or id(info.variable) in chosen)
        if isinstance(info.layer, keras.layers.BatchNormalization):
            weights = norms.setdefault(id(info.layer), (info.layer, []))[1]
            if trainable:
                weights.append(info.variable)
    frozen = [
        layer
        for layer, weights in norms.values()
        if not (any(id(weight) in chosen for weight in weights) if weights else everything)
    ]
    layers = [model, *(node.layer for node in tree_of(model).nodes)]
    spectral = [layer for layer in layers if isinstance(layer, keras.layers.SpectralNormalization)]
    return frozen + [layer for layer in spectral if id(layer.kernel) not in chosen]


@contextlib.contextmanager
def inference_mode(layers: Sequence[keras.layers.Layer]) -> Iterator[None]:
    """Runs `layers` in inference mode while the body is traced.

    A BatchNorm reads its `trainable` while it is traced, and an outer call with `training=True` overrides any
    other switch (https://github.com/keras-team/keras/issues/20285). A SpectralNormalization reads its
    argument `training` alone.
    """
    weights = [(weight, weight.trainable) for layer in layers for weight in layer.weights]
    flags = [layer.trainable for layer in layers]
    try:
        for layer in layers:
            layer.trainable = False
            if isinstance(layer, keras.layers.SpectralNormalization):
                # An attribute of the instance shadows the method of the class.
                vars(layer)["call"] = functools.partial(_without_training, layer.call)
        yield
    finally:
        for layer, flag in zip(layers, flags):
            layer.trainable = flag
            if isinstance(layer, keras.layers.SpectralNormalization):
                vars(layer).pop("call", None)
        # Setting `trainable` of a layer has set it on all its variables.
        for weight, trainable in weights:
            weight.trainable = trainable


def _without_training(call: Callable[..., Tensors], inputs: Tensors, training: bool = False) -> Tensors:
    del training  # whatever an outer call says
    return call(inputs, training=False)
