"""Variables that the layers of a model hold and Keras does not track."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from operator import is_
from typing import TypeAlias

import keras
import tensorflow as tf

from ...optim.naming.model_tree import ModelTree
from ...optim.naming.stable_names import tree_of
from ...optim.private.keras_private import is_book_keeping

Variable: TypeAlias = keras.Variable | tf.Variable

# Objects whose variables are listed elsewhere or belong to no step.
_STEP_OBJECTS = (keras.metrics.Metric, keras.optimizers.Optimizer, keras.losses.Loss)
_LISTED_ELSEWHERE = (keras.layers.Layer, *_STEP_OBJECTS)
# Objects of these packages hold variables that Keras tracks, or none.
_PACKAGES = ("keras", "tensorflow", "builtins", "numpy", "functools", "types", "threading")
_NUMBERS = frozenset({bool, int, float})
_PLAIN_VALUES = _NUMBERS | {str, type(None)}  # the types of most attributes
# Values that `train`, Keras' callbacks and `compile` set on a model.
_SET_BY_RUNS = _NUMBERS | {type(None), keras.callbacks.History}
_COMPILED = ("_compile_config", "_compiled_trainable_state")


def untracked_variables(
    model: keras.Model, tree: ModelTree | None = None, containers: list[Collection[object]] | None = None
) -> list[tuple[str, Variable]]:
    """The states of stateful RNNs, and variables that custom layers keep as a `tf.Variable` or in objects.

    Args:
        model: built.
        tree: `tree_of(model)`, if the caller has it.
        containers: a list to which all containers are added in which variables were searched.

    Returns:
        Pairs of a name, made of the attributes that lead to the variable, and the variable.
    """
    known = {id(value) for variable in model.variables for value in (variable, variable.value)}
    seen: set[int] = set()
    containers = [] if containers is None else containers
    nodes = [("", model), *((f"{node.path}/", node.layer) for node in (tree or tree_of(model)).nodes)]
    containers += [vars(layer) for _, layer in nodes]
    return [
        (name, variable)
        for path, layer in nodes
        for attribute, value in vars(layer).items()
        if type(value) not in _PLAIN_VALUES and not is_book_keeping(attribute)
        for name, variable in _variables_in(path + attribute.lstrip("_"), value, seen, containers)
        if id(variable) not in known
    ]


def contents(holder: Collection[object]) -> list[object]:
    """The items of a container; of a dict, its keys as text, which become names, and its values."""
    return [*map(str, holder), *holder.values()] if isinstance(holder, Mapping) else [*holder]


def are_same(now: list[object], before: list[object]) -> bool:
    """Whether contents are the same objects in the same order; numbers may differ, as they name nothing."""
    if len(now) != len(before):
        return False
    return all(map(is_, now, before)) or all(
        one is other
        or type(one) is type(other)
        and (type(one) in _NUMBERS or type(one) is str and one == other)
        for one, other in zip(now, before)
    )


def holds_the_same(holder: Collection[object], before: list[object]) -> bool:
    """Whether a container still leads to the same variables by the same names as with contents `before`."""
    now = contents(holder)
    return (
        are_same(now, before)
        or isinstance(holder, Mapping)
        and are_same(_naming_items(now), _naming_items(before))
    )


def _naming_items(parts: list[object]) -> list[object]:
    """The contents of a dict without items that a run sets on a model, which lead to no variable."""
    half = len(parts) // 2
    return [
        part
        for key, value in zip(parts[:half], parts[half:])
        if not (type(value) in _SET_BY_RUNS or isinstance(value, _STEP_OBJECTS) or key in _COMPILED)
        for part in (key, value)
    ]


def _variables_in(
    path: str, value: object, seen: set[int], containers: list[Collection[object]]
) -> Iterator[tuple[str, Variable]]:
    if isinstance(value, _LISTED_ELSEWHERE) or id(value) in seen:
        return
    if isinstance(value, (keras.Variable, tf.Variable)):
        seen.add(id(value))
        yield path, value
        return
    items: list[tuple[object, object]] = []
    if isinstance(value, keras.random.SeedGenerator):
        items = [(value.state.name, value.state)]
    elif isinstance(value, tf.random.Generator):
        items = [("state", value.state)]
    elif isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    elif hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] not in _PACKAGES:
        items = list(vars(value).items())
    elif not isinstance(value, (set, frozenset)):  # sets hold layers, in no order
        return
    seen.add(id(value))
    if not isinstance(value, tuple):  # tuples cannot change
        containers.append(value if isinstance(value, Collection) else vars(value))
    for key, item in items:
        if type(item) not in _PLAIN_VALUES:
            yield from _variables_in(f"{path}/{key}", item, seen, containers)
