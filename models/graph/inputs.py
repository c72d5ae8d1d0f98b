"""Converts the inputs that a user passes to the structure of a model's inputs."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from ...optim.common.messages import short_repr
from ...optim.common.types import Tensors
from .keras_graph import functional


def matched_inputs(model: keras.Model, x: Tensors) -> Tensors:
    """The inputs in the structure of `model.input`, from any structure that Keras accepts.

    Keras takes a dict by the names of inputs where a model has a list, and a list where it has a dict in
    sorted order. Flattening a dict gives the order of its keys, not of the model.

    Raises:
        ValueError: inputs that are missing, or more than the model has.
    """
    structure = functional(model).input
    tensors = keras.tree.flatten(structure)
    names = [tensor.name for tensor in tensors]
    flat: list[Tensors] = []
    if not isinstance(x, Mapping):
        in_order = not isinstance(structure, Mapping) or list(structure) == sorted(structure)
        flat = keras.tree.flatten(x) if in_order else []
    elif isinstance(structure, Mapping):
        if all(key in x for key in structure):
            flat = keras.tree.flatten({key: x[key] for key in structure})
    elif all(name in x for name in names):
        flat = [x[name] for name in names]
    if len(flat) != len(tensors):
        passed = list(x) if isinstance(x, Mapping) else f"{len(keras.tree.flatten(x))} without names"
        raise ValueError(
            f"`x` holds {short_repr(passed)}, and model {model.name!r} has the inputs {', '.join(names)}: "
            "pass a dict by these names, or what `model.input` looks like."
        )
    return keras.tree.pack_sequence_as(structure, flat)
