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

# These have variables of their own, which are listed elsewhere or belong to no step.
_OF_STEPS = (keras.metrics.Metric, keras.optimizers.Optimizer, keras.losses.Loss)
_OTHERS = (keras.layers.Layer, *_OF_STEPS)
# Objects of these packages hold what Keras tracks, or no variables.
_PACKAGES = ("keras", "tensorflow", "builtins", "numpy", "functools", "types", "threading")
_NUMBERS = frozenset({bool, int, float})
_PLAIN = _NUMBERS | {str, type(None)}  # most attributes are of these
# What `train`, Keras' callbacks and `compile` set on a model.
_OF_RUNS = _NUMBERS | {type(None), keras.callbacks.History}
_COMPILED = ("_compile_config", "_compiled_trainable_state")


def untracked_variables(
    model: keras.Model, tree: ModelTree | None = None, looked_at: list[Collection[object]] | None = None
) -> list[tuple[str, Variable]]:
    """The states of stateful RNNs, and what layers of one's own keep as a `tf.Variable` or in objects.

    Args:
        model: built.
        tree: `tree_of(model)`, where that is known.
        looked_at: the containers that are looked into are added to it.

    Returns:
        Names, the attributes that lead there, and variables.
    """
    known = {id(value) for variable in model.variables for value in (variable, variable.value)}
    seen: set[int] = set()
    looked_at = [] if looked_at is None else looked_at
    nodes = [("", model), *((f"{node.path}/", node.layer) for node in (tree or tree_of(model)).nodes)]
    looked_at += [vars(layer) for _, layer in nodes]
    return [
        (name, variable)
        for path, layer in nodes
        for attribute, value in vars(layer).items()
        if type(value) not in _PLAIN and not is_book_keeping(attribute)
        for name, variable in _held(path + attribute.lstrip("_"), value, seen, looked_at)
        if id(variable) not in known
    ]


def contents(holder: Collection[object]) -> list[object]:
    """What a container holds: of a dict, the keys, which name its values, as text, and the values."""
    return [*map(str, holder), *holder.values()] if isinstance(holder, Mapping) else [*holder]


def are_same(now: list[object], before: list[object]) -> bool:
    """Whether contents are the same objects in the same order. Numbers may differ: they name nothing."""
    if len(now) != len(before):
        return False
    return all(map(is_, now, before)) or all(
        one is other
        or type(one) is type(other)
        and (type(one) in _NUMBERS or type(one) is str and one == other)
        for one, other in zip(now, before)
    )


def holds_the_same(holder: Collection[object], before: list[object]) -> bool:
    """Whether what a container holds leads to variables by the same names as its contents did before."""
    now = contents(holder)
    return are_same(now, before) or isinstance(holder, Mapping) and are_same(_leading(now), _leading(before))


def _leading(parts: list[object]) -> list[object]:
    """The keys and values of a dict's contents without those that a run gives a model: they lead nowhere."""
    half = len(parts) // 2
    return [
        part
        for key, value in zip(parts[:half], parts[half:])
        if not (type(value) in _OF_RUNS or isinstance(value, _OF_STEPS) or key in _COMPILED)
        for part in (key, value)
    ]


def _held(
    path: str, value: object, seen: set[int], looked_at: list[Collection[object]]
) -> Iterator[tuple[str, Variable]]:
    if isinstance(value, _OTHERS) or id(value) in seen:
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
    elif not isinstance(value, (set, frozenset)):  # which hold layers, in no order
        return
    seen.add(id(value))
    if not isinstance(value, tuple):  # which stays as it is
        looked_at.append(value if isinstance(value, Collection) else vars(value))
    for key, item in items:
        if type(item) not in _PLAIN:
            yield from _held(f"{path}/{key}", item, seen, looked_at)
