"""A table of a model's variables: which train, in which group, how large."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
import numpy as np

from ..common.messages import short_repr
from ..common.tables import align_columns
from ..naming.stable_names import tree_of
from .plan import Plan


def summary(model: keras.layers.Layer, variables: Iterable[keras.Variable] | Plan | None = None) -> str:
    """A plain-text table of every variable: stable name, shape, parameters, dtype, norm, trains or frozen.

    The norm is the root of the sum of the squared values. With a plan there is a column for the group. Where
    Keras shows another name than the stable one, a last column has it.

    Args:
        model: a built model or layer.
        variables: the variables that will train, such as `select` returns, or a `Plan`; `None` means
            `model.trainable_variables`.

    Returns:
        The table, to print.

    Raises:
        TypeError: `variables` is something other than variables or a plan.
        ValueError: a variable is not the model's.
        NotBuiltError: the model's variables do not exist yet.

    Example:
        >>> model = keras.Sequential([
        ...     keras.Input((4,)),
        ...     keras.layers.Dense(3, use_bias=False, kernel_initializer="ones", name="fc1"),
        ...     keras.layers.Dense(3, kernel_initializer="ones", name="fc2")])
        >>> print(summary(model, select(model, "fc2")))
        name        shape   parameters  dtype     norm  state
        fc1/kernel  (4, 3)          12  float32  3.464  frozen
        fc2/kernel  (3, 3)           9  float32      3  trains
        fc2/bias    (3,)             3  float32      0  trains
        3 variables, 24 parameters, 12 train
    """
    tree = tree_of(model)
    plan = variables if isinstance(variables, Plan) else None
    if isinstance(variables, Plan):
        variables = variables.trained
    trained = _identities(model.trainable_variables if variables is None else variables)
    known = {id(variable) for variable in model.weights}
    for identity, variable in trained.items():
        if identity not in known:
            raise ValueError(
                f"`variables` holds {variable.path!r} of shape {tuple(variable.shape)}, which is "
                f"not a variable of model {model.name!r}; select from the model that you pass"
            )
    rows = [["name", "shape", "parameters", "dtype", "norm"]]
    total = training = 0
    for info in tree.infos:
        parameters = math.prod(info.variable.shape)
        total += parameters
        training += parameters * (id(info.variable) in trained)
        norm = np.linalg.norm(np.asarray(info.variable.numpy(), "float64").ravel())
        shape = str(tuple(info.variable.shape))
        rows.append([info.name, shape, f"{parameters:,}", info.variable.dtype, f"{norm:.4g}"])
    if plan is not None:
        groups = {id(v): group for group, members in plan.members.items() for v in members.values()}
        _add(rows, "group", [groups.get(id(info.variable), "") for info in tree.infos])
    _add(rows, "state", ["trains" if id(info.variable) in trained else "frozen" for info in tree.infos])
    if tree.names != list(tree.keras_names):
        shown = zip(tree.names, tree.keras_names)
        _add(rows, "name in Keras", ["" if keras_name == name else keras_name for name, keras_name in shown])
    totals = f"{len(tree.infos):,} variables, {total:,} parameters, {training:,} train"
    return "\n".join([*align_columns(rows, right=(2, 4)), totals])


def _add(rows: list[list[str]], heading: str, column: Iterable[str]) -> None:
    for row, cell in zip(rows, [heading, *column]):
        row.append(cell)


def _identities(variables: Iterable[keras.Variable]) -> dict[int, keras.Variable]:
    if isinstance(variables, (str, keras.Variable)) or not isinstance(variables, Iterable):
        raise TypeError(
            "`variables` must be a list of variables, such as `select(model, 'conv')` returns, got "
            f"{short_repr(variables)}"
        )
    found = {}
    for variable in variables:
        if not isinstance(variable, keras.Variable):
            raise TypeError(
                f"`variables` must hold keras.Variable objects, got {short_repr(variable)}; filters go "
                "through `select(model, ...)`"
            )
        found[id(variable)] = variable
    return found
