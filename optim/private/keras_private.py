"""What this package uses of Keras' private interface.

Keras has no public way to ask how a layer names itself, which attributes it fills itself, which layers it
tracks, how a Functional model calls them, whose variables an optimizer is built over, or what rate it was
made with; nor to give an optimizer gradients that are summed over replicas. The answers are in this file
alone, and `tests/optim/private/test_keras_private.py` tries each on the oldest and the newest Keras.

What cannot be known is whether a user wrote `name="dense_1"` or Keras counted to it: Keras forgets the
`name` argument (`Operation.__new__` says "Remove argument name"), and a loaded layer was given its name
either way. So names that look automatic count as automatic.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

# What clips an optimizer's gradients.
Clip: TypeAlias = Callable[[keras.optimizers.Optimizer, Sequence[tf.Tensor]], list[tf.Tensor]]
# The learning rate of an update, of the one that an optimizer is set to.
RateOf: TypeAlias = Callable[[tf.Tensor], tf.Tensor]
# Attributes in which Keras, or TensorFlow's tracking below it, lists what other attributes hold.
_BOOK_KEEPING = frozenset(
    {
        "_build_shapes_dict",
        "_call_context_args",
        "_call_has_context_arg",
        "_functional",
        "_inbound_nodes",
        "_layers",
        "_loss_ids",
        "_losses",
        "_losses_override",
        "_metrics",
        "_non_trainable_variables",
        "_operations",
        "_operations_by_depth",
        "_outbound_nodes",
        "_tracked",
        "_trainable_variables",
    }
)


def is_book_keeping(attribute: str) -> bool:
    """Whether Keras or TensorFlow, not the layer's author, filled this attribute."""
    return attribute in _BOOK_KEEPING or attribute.startswith("_self_")


def is_graph_model(layer: keras.layers.Layer) -> bool:
    """Whether `layer` is Sequential or Functional: its layers are known by their names.

    The class `Functional` is not exported, so it is recognised by its name. If Keras renamed it, the layers
    of such models would get other names, still unique ones.
    """
    return isinstance(layer, keras.Sequential) or any(
        base.__name__ == "Functional" and base.__module__.startswith("keras.") for base in type(layer).__mro__
    )


def graph_nodes(model: keras.Model) -> list[Any]:
    """The calls in the graph of a Functional model, each after those whose outputs it reads.

    Each has its `operation`, a layer or an operation of `keras.ops`, its `input_tensors`, none for an input
    of the model, and its `output_tensors`.
    """
    levels = model._nodes_by_depth
    return [node for depth in sorted(levels, reverse=True) for node in levels[depth]]


def calling_models(variables: Sequence[keras.Variable]) -> Iterator[keras.layers.Layer]:
    """The models that have these variables and that a calling function works on, the nearest first.

    Keras gives an optimizer the variables of a model to build it over, not the model, and no variable knows
    its layer. When a file is loaded, only the method that calls has the model, as its `self`.
    """
    wanted = {id(variable) for variable in variables}
    frame, seen = inspect.currentframe(), set()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if isinstance(value, keras.layers.Layer) and id(value) not in seen:
                seen.add(id(value))
                if wanted <= {id(variable) for variable in value.weights}:
                    yield value
        frame = frame.f_back


def tracked_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that Keras tracks directly under `layer`, in the order of their creation there.

    Some are in no attribute any more, such as one that was overwritten; its variables stay in
    `layer.weights`.
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
    """Whether the name is one that Keras gives to variables without a name: `variable`, `variable_3`."""
    return re.fullmatch(r"variable(_[1-9][0-9]*)?", variable.name) is not None


def weights_were_set(layers: Iterable[keras.layers.Layer]) -> None:
    """Recomputes what layers derive from their weights: a `Normalization` its mean and variance.

    Keras' own loading does so in `load_own_variables`, which assigning the weights by name leaves out.
    """
    for layer in layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def raw_learning_rate(
    optimizer: keras.optimizers.Optimizer,
) -> float | keras.optimizers.schedules.LearningRateSchedule | Callable[[], tf.Tensor]:
    """An optimizer's learning rate: the current number, or its schedule or callable itself.

    The property `learning_rate` gives the current value of a schedule.
    """
    rate = optimizer._learning_rate
    return float(rate.numpy()) if isinstance(rate, keras.Variable) else rate


def uses_weight_decay(
    optimizer: keras.optimizers.Optimizer,
    variable: keras.Variable,
    applied_by: keras.optimizers.Optimizer | None = None,
) -> bool:
    """Whether weight decay applies to the variable: `optimizer.exclude_from_weight_decay` may exclude it.

    Keras looks for `var_names` in the name of the backend's variable, which tells the layer
    (`norm/gamma:0`); an optimizer that decays in its own way (Muon) in that of the Keras variable (`gamma`).
    It keeps each answer by the variable, so another question would change what it does itself. `applied_by`
    is the optimizer that decays, if it is another one.
    """
    stock = (
        type(applied_by or optimizer)._apply_weight_decay is keras.optimizers.Optimizer._apply_weight_decay
    )
    return bool(optimizer._use_weight_decay(variable.value if stock else variable))


@contextlib.contextmanager
def tracked() -> Iterator[None]:
    """A context in which an optimizer's `build` finds all its variables.

    Keras builds what is within a `LossScaleOptimizer` with its tracking of attributes off, so that what Nadam
    and Adafactor keep beside their slots would be in no list.
    """
    from keras.src.backend.common import global_state

    before = global_state.get_global_attribute("tracking_on", True)
    global_state.set_global_attribute("tracking_on", True)
    try:
        yield
    finally:
        global_state.set_global_attribute("tracking_on", before)


def takes_sums(optimizer: keras.optimizers.Optimizer) -> contextlib.AbstractContextManager[None]:
    """A context in which `optimizer.apply` does not sum gradients over replicas, as they are summed already.

    Keras' own sum concatenates all gradients, which fails for gradients of two dtypes.
    """
    return _replaced(optimizer, "_all_reduce_sum_gradients", lambda _: list)


def clips_by(optimizer: keras.optimizers.Optimizer, clip: Clip) -> contextlib.AbstractContextManager[None]:
    """A context in which an optimizer clips by `clip(optimizer, gradients)`.

    Keras' own global norm joins all gradients, which fails for gradients of two dtypes.
    """
    return _replaced(optimizer, "_clip_gradients", lambda each: functools.partial(clip, each))


def takes_rate(
    optimizer: keras.optimizers.Optimizer, rate: RateOf
) -> contextlib.AbstractContextManager[None]:
    """A context in which `rate(r)` is an optimizer's learning rate where it is set to `r`."""

    def current(each: keras.optimizers.Optimizer) -> Callable[[], tf.Tensor]:
        return lambda: rate(tf.convert_to_tensor(type(each)._get_current_learning_rate(each)))

    return _replaced(optimizer, "_get_current_learning_rate", current)


@contextlib.contextmanager
def _replaced(
    optimizer: keras.optimizers.Optimizer, name: str, method: Callable[[keras.optimizers.Optimizer], object]
) -> Iterator[None]:
    optimizers = _with_inner(optimizer)
    for each in optimizers:
        vars(each)[name] = method(each)
    try:
        yield
    finally:
        # Replicas are traced in turns. The first one to leave removes it for all, who have used it by then.
        for each in optimizers:
            vars(each).pop(name, None)


def _with_inner(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """An optimizer and those that it holds, which it may call (`MultiOptimizer`, a Lookahead)."""
    found = [optimizer]
    for value in keras.tree.flatten([vars(optimizer)[name] for name in vars(optimizer)]):
        if isinstance(value, keras.optimizers.Optimizer) and value not in found:
            found += [inner for inner in _with_inner(value) if inner not in found]
    return found
