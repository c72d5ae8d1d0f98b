"""Everything of Keras that is not its public interface and that this package leans on.

Keras has no public way to ask how a layer names itself, which attributes it keeps for its own
book-keeping, which layers it tracks, what rate an optimizer was made with, or how to give an
optimizer gradients that are summed over replicas. The answers live here
alone, so that a new Keras version can break one small file, and `tests/optim/test_keras_private.py`
says so at once.

What cannot be known: whether a user wrote `name="dense_1"` or Keras counted to it. Keras drops the
`name` argument from the arguments that it keeps (`Operation.__new__` says "Remove argument name"),
and a loaded layer was given its name either way. Names that look automatic are therefore always
taken as automatic.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras

# Containers in which Keras (or TensorFlow's tracking under it) repeats what attributes hold.
_BOOK_KEEPING = frozenset(
    {
        "_functional",
        "_layers",
        "_losses",
        "_metrics",
        "_non_trainable_variables",
        "_operations",
        "_operations_by_depth",
        "_trainable_variables",
    }
)


def is_book_keeping(attribute: str) -> bool:
    """Whether Keras or TensorFlow, not the layer's author, filled this attribute."""
    return attribute in _BOOK_KEEPING or attribute.startswith("_self_")


def is_graph_model(layer: keras.layers.Layer) -> bool:
    """Whether `layer` is Sequential or Functional: its layers are known by their names.

    The class `Functional` is not exported, so it is told by its name; were it renamed, such models
    would be named by their attributes and tracked layers, still uniquely.
    """
    return isinstance(layer, keras.Sequential) or any(
        base.__name__ == "Functional" and base.__module__.startswith("keras.") for base in type(layer).__mro__
    )


def tracked_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that Keras tracks directly under `layer`, in the order it met them.

    Needed for layers that no attribute leads to any more, such as one that was overwritten: its
    variables stay in `layer.weights`.
    """
    return list(getattr(layer, "_layers", ()))


def automatic_name(cls: type) -> str:
    """The name that Keras gives to the first layer of class `cls`, e.g. `conv2d`, `re_lu`."""
    words = re.sub(r"\W+", "", cls.__name__)
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", words)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def has_automatic_name(layer: keras.layers.Layer) -> bool:
    """Whether the name is one that Keras' counter gives out: `dense`, `dense_1`, not `dense_01`."""
    first = re.escape(automatic_name(type(layer)))
    return re.fullmatch(rf"{first}(_[1-9][0-9]*)?", layer.name) is not None


def has_automatic_variable_name(variable: keras.Variable) -> bool:
    """Whether Keras made up the variable's name: `variable`, `variable_3`."""
    return re.fullmatch(r"variable(_[1-9][0-9]*)?", variable.name) is not None


def raw_learning_rate(
    optimizer: keras.optimizers.Optimizer,
) -> float | keras.optimizers.schedules.LearningRateSchedule | Callable[[], Any]:
    """The rate that an optimizer was made with: its number as it is now, its schedule or its callable.

    The property `learning_rate` gives a schedule's current value alone.
    """
    rate = optimizer._learning_rate
    return float(rate.numpy()) if isinstance(rate, keras.Variable) else rate


def uses_weight_decay(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Whether `optimizer.exclude_from_weight_decay` has left this variable in."""
    return bool(optimizer._use_weight_decay(variable))


@contextlib.contextmanager
def takes_sums(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Meanwhile, `optimizer.apply` takes gradients for what replicas have summed already.

    Else it sums them (again), in a reduction that joins gradients of all dtypes, which fails for two.
    """
    name = "_all_reduce_sum_gradients"
    vars(optimizer)[name] = list
    try:
        yield
    finally:
        # Replicas are traced in turns, and all of them use it before the first one ends.
        vars(optimizer).pop(name, None)
