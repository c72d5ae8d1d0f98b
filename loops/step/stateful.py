"""Refuses stateful RNNs on several replicas: their states belong to the examples of a batch."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

from ...optim.naming.stable_names import tree_of
from ..distribute.scope import replicas_of


def check_stateless(model: keras.Model, strategy: tf.distribute.Strategy | None) -> None:
    """Raises ValueError if a layer of `model` is a stateful RNN, and there are several replicas."""
    replicas = replicas_of(strategy)
    check_layers((node.layer for node in tree_of(model).nodes), replicas)


def check_layers(layers: Iterable[keras.layers.Layer], replicas: int) -> None:
    """`check_stateless` for some layers.

    Each replica would have states of its own examples, while checkpoints and evaluation use those of one.
    """
    for layer in layers if replicas > 1 else ():
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            raise ValueError(
                f"`model` has the layer {layer.name!r} with `stateful=True`, which on {replicas} replicas "
                "would have other states on each, and a checkpoint those of one: make the layer with "
                "`stateful=False`, or use one device."
            )
