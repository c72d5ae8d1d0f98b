"""Cutting a model's graph in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from ...optim.private.keras_private import is_graph_model
from .keras_graph import Call, calls, functional, has_mask


class Parts(NamedTuple):
    """A graph in two parts, one after the other.

    Attributes:
        front: from the inputs to those tensors of the cut that it computes, a list; None if there are none.
        rest: from the tensors of the cut, a list in their order, to the outputs.
        computed: for each tensor of the cut, its place among the front's outputs.
        given: for each tensor of the cut, its place among the model's inputs. One of both is None.
    """

    front: keras.Model | None
    rest: keras.Model
    computed: Sequence[int | None]
    given: Sequence[int | None]


def split_graph(model: keras.Model, is_rest: Callable[[Call], bool]) -> Parts:
    """Cuts a model before the calls that are of the rest; whatever reads from these is of the rest too.

    Both parts share the model's layers, and so its variables. The cut may cross any number of tensors: a
    chain's one, the arms of a branch, a skip over the cut.

    Args:
        model: Functional or Sequential, built.
        is_rest: asked for each call that does not read from the rest already, in their order.

    Raises:
        ValueError: a subclassed model; a cut after which nothing is left, or through a masked sequence.
    """
    whole, graph = functional(model), calls(model)
    later: set[int] = set()
    for call in graph:
        if call.inputs and (any(id(tensor) in later for tensor in call.inputs) or is_rest(call)):
            later.update(map(id, call.outputs))
    if not later:
        raise ValueError(f"`model` {model.name!r} has nothing after the cut.")
    crossing: dict[int, Any] = {}
    for call in graph:
        if any(id(tensor) in later for tensor in call.outputs):
            crossing.update((id(tensor), tensor) for tensor in call.inputs if id(tensor) not in later)
    # An output of the front is one of the whole: the rest passes it through.
    outputs = keras.tree.flatten(whole.output)
    crossing.update((id(tensor), tensor) for tensor in outputs if id(tensor) not in later)
    inputs = {id(tensor): place for place, tensor in enumerate(keras.tree.flatten(whole.input))}
    cut = list(crossing.values())
    made = [tensor for tensor in cut if id(tensor) not in inputs]
    places = {id(tensor): place for place, tensor in enumerate(made)}
    masked = [tensor for tensor in made if has_mask(tensor)]
    if masked:
        raise ValueError(
            f"`model` {model.name!r} would be cut where a mask goes with the values, {masked[0].name!r}: "
            "the values alone would be kept of it."
        )
    fresh = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in cut]
    values = {id(tensor): new for tensor, new in zip(cut, fresh)}
    _call_again([call for call in graph if id(call.outputs[0]) in later], values)
    outputs = keras.tree.pack_sequence_as(whole.output, [values[id(tensor)] for tensor in outputs])
    return Parts(
        keras.Model(whole.input, made, name=f"{model.name}_front") if made else None,
        keras.Model(fresh if len(fresh) > 1 else fresh[0], outputs, name=f"{model.name}_rest"),
        [places.get(id(tensor)) for tensor in cut],
        [inputs.get(id(tensor)) for tensor in cut],
    )


def inlined(model: keras.Model) -> keras.Model:
    """The same function of the same layers, models among them opened in place; `model` if there are none."""
    if not any(call.inputs and is_graph_model(call.operation) for call in calls(model)):
        return model
    whole = functional(model)
    outputs = _opened(whole, keras.tree.flatten(whole.input))
    return keras.Model(whole.input, keras.tree.pack_sequence_as(whole.output, outputs), name=model.name)


def _opened(model: keras.Model, inputs: Sequence[Any]) -> list[Any]:
    """Calls a model's layers again, on other symbolic inputs; returns its outputs."""
    whole = functional(model)
    values = {id(own): given for own, given in zip(keras.tree.flatten(whole.input), inputs)}
    _call_again([call for call in calls(model) if call.inputs], values)
    return [values[id(output)] for output in keras.tree.flatten(whole.output)]


def _call_again(graph: Sequence[Call], values: dict[int, Any]) -> None:
    """Makes calls on other symbolic tensors, given by the `id` of their own ones; adds what they return."""
    for call in graph:
        args, kwargs = call.arguments(values)
        if is_graph_model(call.operation):
            made = _opened(call.operation, keras.tree.flatten(args[0]))
        else:
            made = keras.tree.flatten(call.operation(*args, **kwargs))
        values.update((id(own), new) for own, new in zip(call.outputs, made))


def of_cut(parts: Parts, computed: Sequence[Any], x: Any) -> Any:
    """What the rest reads: values that the front computed, and inputs that go past it.

    Args:
        parts: of `split_graph`.
        computed: the front's outputs.
        x: the model's inputs, a nest.

    Returns:
        One value, or a tuple in the order of the cut.
    """
    inputs = keras.tree.flatten(x)
    values = []
    for place, source in zip(parts.computed, parts.given):
        if place is not None:
            values.append(computed[place])
        elif source is not None:
            values.append(inputs[source])
    return tuple(values) if len(values) > 1 else values[0]
