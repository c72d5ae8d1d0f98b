"""What some code wrote into variables, and putting it back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import keras
import tensorflow as tf
from tensorflow.python.distribute.values import DistributedVariable

from ...optim.common.types import Scalar
from .tensorflow_private import graph_now

# None is eager execution.
Graph: TypeAlias = tf.Graph | None


class Write(NamedTuple):
    """The first write to a variable."""

    variable: tf.Variable  # of a distributed one, this replica's
    before: tf.Tensor  # what it held
    layers: tuple[keras.layers.Layer, ...]  # that were called at the time, innermost last


class _Part:
    """What was written between two decisions of updates."""

    def __init__(self) -> None:
        self.writes: dict[int, Write] = {}  # by `key_of`
        self.after: dict[int, tf.Tensor] | None = None  # what variables held at the first decision
        self.settled: set[int] = set()  # keys about which the update that trains the layer has decided


class Writes:
    """The first write to each variable by some code, on one replica. `recording` fills it."""

    def __init__(self, everything: bool, seeds: bool) -> None:
        self.first: dict[int, Write] = {}  # what was written, in order, by `key_of`
        self.calling: list[keras.layers.Layer] = []  # now, innermost last
        self.layers: dict[int, keras.layers.Layer] = {}  # all that were called, by `id`
        self.active = True  # whether writes are recorded
        self.seeds = seeds  # whether those of generators of random numbers are, too
        self._everything = everything
        self._root = _graph_now()
        # A condition or a loop has a graph of its own, and what is put back in it was read in it.
        self._parts: dict[Graph, _Part] = {}
        self._trained: set[int] = set()

    def note(self, variable: tf.Variable) -> None:
        """Records the value of a variable before the first write to it."""
        if not self.active:
            return
        variable, key = own_copy(variable), key_of(variable)
        # In a step of one's own, what it writes itself may be the weights of another optimizer.
        if not (self._everything or self.calling or variable.aggregation == tf.VariableAggregation.SUM):
            return
        graphs = self._graphs()
        for graph in graphs[-1:] if self._everything else graphs:
            part = self._parts.setdefault(graph, _Part())
            if part.after is not None:
                part = self._parts[graph] = _Part()
            if key not in part.writes:
                part.writes[key] = Write(variable, _read(variable, graph), tuple(self.calling))
        if graphs and key not in self.first:
            self.first[key] = self._parts[self._root].writes[key]

    def train(self, variables: Iterable[keras.Variable]) -> set[int]:
        """Records which variables an update trains; returns their keys."""
        keys = {key_of(own_copy(variable)) for variable in variables}
        self._trained |= keys
        return keys

    def undo(self, unless: bool | Scalar, trained: Iterable[keras.Variable] = ()) -> list[tf.Operation]:
        """Puts back what was written since the last decision; returns what is to be waited for.

        With no write between them, decisions are about the same writes: the one of the update that trains a
        layer counts for what that wrote, and for the rest all must have taken their steps.

        Args:
            unless: a scalar bool, whether the update takes its step.
            trained: by the update. What others trained before stays as they left it.
        """
        own = self.train(trained)
        others = self._trained - own
        part = next((self._parts[graph] for graph in self._graphs() if graph in self._parts), _Part())
        if part.after is None:
            part.after = {key: _read(write.variable, _graph_now()) for key, write in part.writes.items()}
        done = []
        with self.paused():
            for key, write in part.writes.items():
                decides = key in own or _trains(own, write.layers)
                if key in others or key in part.settled and not decides:
                    continue
                if decides:
                    part.settled.add(key)
                now = part.after[key] if decides else write.variable
                value = tf.where(unless, now, write.before)
                done.append(write.variable.assign(value, read_value=False))
        return [operation for operation in done if operation is not None]

    def put_back_untrained(self, trained: Iterable[keras.Variable] = ()) -> None:
        """Puts back weights that a layer wrote and no update trains."""
        self.train(trained)
        with self.paused():
            for key in self._weights() - self._trained if self._trained else ():
                self.first[key].variable.assign(self.first[key].before, read_value=False)

    def statistics(self) -> list[tf.Variable]:
        """What layers wrote that is neither a weight to train nor a metric: moving averages and the like."""
        weights = self._weights()
        written = [write.variable for key, write in self.first.items() if write.layers and key not in weights]
        metric = tf.VariableAggregation.SUM
        return [v for v in written if v.dtype.is_floating and v.aggregation != metric]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Records nothing that the body writes."""
        active, self.active = self.active, False
        try:
            yield
        finally:
            self.active = active

    def _weights(self) -> set[int]:
        """Keys of what was written of the variables that Keras made as weights to train, frozen or not."""
        made = set().union(*map(_weights_of, self.layers.values()))
        return self.first.keys() & made

    def _graphs(self) -> list[Graph]:
        """The graph that is traced now and those around it, up to where the recording began; none outside."""
        graph, found = _graph_now(), []
        while graph is not self._root:
            if graph is None:
                return []
            found.append(graph)
            graph = _function_graph(graph.outer_graph)
        return [*found, graph]


def key_of(variable: tf.Variable) -> int:
    """What two objects for the same variable have in common."""
    return id(variable.handle)


def own_copy(variable: keras.Variable | tf.Variable) -> tf.Variable:
    """The replica's own copy of a variable."""
    variable = variable.value if isinstance(variable, keras.Variable) else variable
    return variable._get_on_device_or_primary() if isinstance(variable, DistributedVariable) else variable


def _weights_of(layer: keras.layers.Layer) -> set[int]:
    """Keys of the variables that were made to train; freezing a layer does not change that."""
    copies = map(own_copy, layer.weights)
    return {key_of(copy) for copy in copies if copy.trainable}


def _trains(trained: set[int], layers: Iterable[keras.layers.Layer]) -> bool:
    """Whether what is trained is of the innermost of nested layers that has weights to train."""
    weights = next(filter(None, (_weights_of(layer) for layer in reversed([*layers]))), set())
    return bool(weights & trained)


def _function_graph(graph: Graph) -> Graph:
    """The graph if it is of a function, None for that around all of them."""
    return graph if hasattr(graph, "outer_graph") else None


def _graph_now() -> Graph:
    return _function_graph(graph_now())


def _read(variable: tf.Variable, graph: Graph) -> tf.Tensor:
    """What a variable holds now, read in `graph`, by an operation that waits for nothing of its own."""
    place: contextlib.AbstractContextManager[object] = tf.init_scope()
    if graph is not None:
        place = contextlib.nullcontext() if graph is _graph_now() else graph.as_default()
    with place, tf.control_dependencies(None):
        return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
