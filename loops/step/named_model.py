"""The names of a model's variables, found anew only when the model holds other objects."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeAlias

import keras
import tensorflow as tf

from ...optim.naming.model_tree import ModelTree
from ...optim.naming.stable_names import tree_of
from ..support.keras_private import layer_metrics
from .untracked import are_same, contents, holds_the_same, untracked_variables

Variable: TypeAlias = keras.Variable | tf.Variable
Pairs: TypeAlias = list[tuple[str, Variable]]


class NamedModel:
    """A built model and the names of its variables.

    To find them is a walk through all that its layers hold, which takes longer than a step of a small
    network. To see that each object is still where it was then takes a fiftieth of that.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._variables: list[keras.Variable] | None = None  # what Keras tracked when the names were found
        self._looked_at: list[tuple[Collection[object], list[object]]] = []  # and all else, with its contents

    @property
    def tree(self) -> ModelTree:
        """The model's `ModelTree`."""
        self._find()
        return self._tree

    def state(self, metrics: Iterable[keras.metrics.Metric] = ()) -> Pairs:
        """The weights, the states of seed generators, and what Keras does not track.

        Then follow the variables of metrics with a state: those given, and those that the layers hold.

        Weights have the names of `optim.named_variables`. Keras counts seed generators through the whole
        process; here they have the name of the innermost layer that holds them. The rest have those of
        attributes.
        """
        self._find()
        every = [*metrics, *layer_metrics(self._model, self._tree)]
        return self._pairs + [
            (f"metrics/{metric.name}/{v.name}", v) for metric in every for v in metric.variables
        ]

    def _find(self) -> None:
        variables = self._model.variables
        if self._variables is not None and are_same(variables, self._variables):
            if all(holds_the_same(holder, before) for holder, before in self._looked_at):
                return
        self._tree, holders = tree_of(self._model), list[Collection[object]]()
        self._pairs = _tracked(self._tree, variables)
        self._pairs += untracked_variables(self._model, self._tree, holders)
        self._looked_at = [(holder, contents(holder)) for holder in holders]
        self._variables = variables


def _tracked(tree: ModelTree, variables: Iterable[keras.Variable]) -> Pairs:
    """The weights by their names, and the rest of a model's variables by the layers that hold them."""
    named = [(info.name, info.variable) for info in tree.infos]
    weights = {id(variable) for _, variable in named}
    others = [variable for variable in variables if id(variable) not in weights]
    homes: dict[int, tuple[tuple[int, int], str]] = {}
    for node in tree.nodes if others else ():
        held = node.layer.variables
        narrow = (len(held), -len(node.ancestors))
        for variable in held:
            if id(variable) not in homes or narrow < homes[id(variable)][0]:
                homes[id(variable)] = narrow, f"{node.path}/"
    return named + [(homes[id(v)][1] + v.name if id(v) in homes else v.name, v) for v in others]
