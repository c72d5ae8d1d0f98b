"""Where the frozen part of a model ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ...optim import Plan, select
from ..graph.keras_graph import Call, calls
from ..graph.split import Parts, inlined, split_graph


def trained_variables(model: keras.Model, trained: Any) -> list[keras.Variable]:
    """The variables that a plan, filters or a list of variables say, in the model's order.

    Raises:
        ValueError: variables of another model, or none.
        SelectionError: a filter that matches nothing.
    """
    if isinstance(trained, Plan):
        items: list[Any] = list(trained.trained)
    else:
        items = list(trained) if isinstance(trained, (list, tuple)) else [trained]
        if not items or not all(isinstance(item, keras.Variable) for item in items):
            return select(model, *items)
    ids = {id(item) for item in items}
    found = [variable for variable in model.trainable_variables if id(variable) in ids]
    if not found or len(found) < len(ids):
        raise ValueError(
            f"`trained` holds {len(ids)} variables, of which {len(found)} are trainable ones of model "
            f"{model.name!r}: pass a plan or variables of this model of which at least one trains."
        )
    return found


def split_frozen(model: keras.Model, trained: Sequence[keras.Variable]) -> Parts:
    """Cuts a model before what trains, as late as it can.

    Dropout and its like, which give something else at each step, are of the rest as long as no frozen weights
    come after them.

    Raises:
        ValueError: no layer with weights is frozen before the first that trains; a subclassed model.
    """
    ids = {id(variable) for variable in trained}
    model = inlined(model)
    graph = calls(model)

    def trains(call: Call) -> bool:
        return any(id(variable) in ids for variable in getattr(call.operation, "weights", ()))

    reached: set[int] = set()
    for call in graph:
        if trains(call) or any(id(tensor) in reached for tensor in call.inputs):
            reached.update(map(id, call.outputs))
    # Tensors on which frozen weights work later.
    wanted: set[int] = set()
    for call in reversed(graph):
        if id(call.outputs[0]) in reached:
            continue
        if weighs(call) or any(id(tensor) in wanted for tensor in call.outputs):
            wanted.update(map(id, call.inputs))

    def is_rest(call: Call) -> bool:
        return trains(call) or (draws(call) and not any(id(tensor) in wanted for tensor in call.outputs))

    if not wanted:
        first = next(call.operation.name for call in graph if trains(call))
        raise ValueError(
            f"`trained`: no layer with weights is frozen before {first!r}, the first that trains in model "
            f"{model.name!r}, so there is nothing to keep. Train the model itself."
        )
    return split_graph(model, is_rest)


def weighs(call: Call) -> bool:
    """Whether a call uses weights."""
    return bool(getattr(call.operation, "weights", ()))


def draws(call: Call) -> bool:
    """Whether a call draws random numbers: its layer has a seed generator, whose state is no weight."""
    operation = call.operation
    return len(getattr(operation, "variables", ())) > len(getattr(operation, "weights", ()))


def augmentations(model: keras.Model) -> list[str]:
    """The names of the layers that augment data at random: those that draw before any weights, save dropout.

    Dropout hides features at random, augmentation makes other examples: only the second is lost in a cache
    without anybody having asked for it.
    """
    names = []
    for call in calls(model):
        if draws(call) and not isinstance(call.operation, _DROPPING):
            names.append(call.operation.name)
    return names


_DROPPING = (
    keras.layers.Dropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
