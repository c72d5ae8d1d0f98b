"""A table of a model's variables: which train, which are frozen, how many parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras

from .matching import brief
from .names import layout_of
from .table import aligned


def summary(model: keras.layers.Layer, variables: Iterable[keras.Variable] | None = None) -> str:
    """A plain-text table of every variable: stable name, shape, parameters, trains or frozen.

    Where Keras shows another name than the stable one, a last column tells it.

    Args:
        model: a built model or layer.
        variables: the variables that will train, such as `select` returns; `None` means
            `model.trainable_variables`.

    Returns:
        The table, to print.

    Raises:
        TypeError: `variables` is or holds something else than variables.
        ValueError: a variable is not the model's.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="fc1"),
        ...                           keras.layers.Dense(2, name="fc2")])
        >>> print(summary(model, select(model, "fc2")))
        name        shape   parameters  state
        fc1/kernel  (4, 3)          12  frozen
        fc1/bias    (3,)             3  frozen
        fc2/kernel  (3, 2)           6  trains
        fc2/bias    (2,)             2  trains
        4 variables, 23 parameters, 8 train
    """
    layout = layout_of(model)
    trained = _identities(model.trainable_variables if variables is None else variables)
    known = {id(variable) for variable in model.weights}
    for identity, variable in trained.items():
        if identity not in known:
            raise ValueError(
                f"`variables` holds {variable.path!r} of shape {tuple(variable.shape)}, which is "
                f"not a variable of model {model.name!r}; select from the model that you pass"
            )
    rows = [["name", "shape", "parameters", "state"]]
    total = training = 0
    for info in layout.infos:
        parameters = math.prod(info.variable.shape)
        trains = id(info.variable) in trained
        total += parameters
        training += parameters * trains
        state = "trains" if trains else "frozen"
        rows.append([info.name, str(tuple(info.variable.shape)), f"{parameters:,}", state])
    if layout.names != list(layout.shown):
        for row, shown in zip(rows, ["name in Keras", *layout.shown]):
            row.append("" if shown == row[0] else shown)
    totals = f"{len(layout.infos):,} variables, {total:,} parameters, {training:,} train"
    return "\n".join([*aligned(rows, right=(2,)), totals])


def _identities(variables: Iterable[keras.Variable]) -> dict[int, keras.Variable]:
    if isinstance(variables, (str, keras.Variable)) or not isinstance(variables, Iterable):
        raise TypeError(
            "`variables` must be a list of variables, such as `select(model, 'conv')` returns, got "
            f"{brief(variables)}"
        )
    found = {}
    for variable in variables:
        if not isinstance(variable, keras.Variable):
            raise TypeError(
                f"`variables` must hold keras.Variable objects, got {brief(variable)}; filters go "
                "through `select(model, ...)`"
            )
        found[id(variable)] = variable
    return found
