"""What some code wrote into variables, and how to undo it: a rollback within a step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import keras
import tensorflow as tf
from tensorflow.python.distribute.values import DistributedVariable

from ...optim.common.types import Scalar
from .tensorflow_private import current_graph

# None is eager execution.
Graph: TypeAlias = tf.Graph | None


class Write(NamedTuple):
    """The first write to a variable."""

    variable: tf.Variable  # of a distributed one, this replica's
    before: tf.Tensor  # what it held
    layers: tuple[keras.layers.Layer, ...]  # that were called at the time, innermost last


class _Segment:
    """The writes between two decisions: each `Update` decides whether its step is taken or skipped."""

    def __init__(self) -> None:
        self.writes: dict[int, Write] = {}  # by `variable_key`
        self.after: dict[int, tf.Tensor] | None = None  # what variables held at the first decision
        self.decided: set[int] = set()  # keys about which the update that trains the layer has decided


class VariableWrites:
    """The first write to each variable by some code, on one replica. `record_writes` fills it."""

    def __init__(self, everything: bool, seeds: bool) -> None:
        self.first: dict[int, Write] = {}  # in the order of the writes, by `variable_key`
        self.call_stack: list[keras.layers.Layer] = []  # layers that are being called, innermost last
        self.layers: dict[int, keras.layers.Layer] = {}  # all that were called, by `id`
        self.active = True  # whether writes are recorded
        self.seeds = seeds  # whether the states of random number generators are recorded, too
        self._everything = everything
        self._root = _current_function_graph()
        # A condition or a loop has a graph of its own: a value restored in it must be read in it.
        self._segments: dict[Graph, _Segment] = {}
        self._trained: set[int] = set()

    def before_write(self, variable: tf.Variable) -> None:
        """Records the value of a variable before the first write to it."""
        if not self.active:
            return
        variable, key = replica_copy(variable), variable_key(variable)
        # What a step of one's own writes outside of layers may be weights that another optimizer trains.
        if not (self._everything or self.call_stack or variable.aggregation == tf.VariableAggregation.SUM):
            return
        graphs = self._graphs()
        for graph in graphs[-1:] if self._everything else graphs:
            segment = self._segments.setdefault(graph, _Segment())
            if segment.after is not None:
                segment = self._segments[graph] = _Segment()
            if key not in segment.writes:
                segment.writes[key] = Write(variable, _read(variable, graph), tuple(self.call_stack))
        if graphs and key not in self.first:
            self.first[key] = self._segments[self._root].writes[key]

    def mark_trained(self, variables: Iterable[keras.Variable]) -> set[int]:
        """Marks the variables that an update trains; returns their keys."""
        keys = {variable_key(replica_copy(variable)) for variable in variables}
        self._trained |= keys
        return keys

    def undo_unless(
        self, applied: bool | Scalar, trained: Iterable[keras.Variable] = ()
    ) -> list[tf.Operation]:
        """Restores the values before the writes since the last decision, unless the update takes its step.

        Several updates may decide in turn, without a write between them, about the same writes. The update
        that trains a layer decides about what this layer wrote; all other writes stay only if every update
        takes its step.

        Args:
            applied: a scalar bool, whether the update takes its step.
            trained: the variables that it trains. Those that other updates trained before are left alone.

        Returns:
            The operations that restore; later ones must wait for them.
        """
        own = self.mark_trained(trained)
        others = self._trained - own
        segments = (self._segments[graph] for graph in self._graphs() if graph in self._segments)
        segment = next(segments, _Segment())
        if segment.after is None:
            graph = _current_function_graph()
            segment.after = {key: _read(write.variable, graph) for key, write in segment.writes.items()}
        operations = []
        with self.paused():
            for key, write in segment.writes.items():
                decides = key in own or _trains_innermost(own, write.layers)
                if key in others or key in segment.decided and not decides:
                    continue
                if decides:
                    segment.decided.add(key)
                now = segment.after[key] if decides else write.variable
                value = tf.where(applied, now, write.before)
                operations.append(write.variable.assign(value, read_value=False))
        return [operation for operation in operations if operation is not None]

    def restore_untrained_weights(self, trained: Iterable[keras.Variable] = ()) -> None:
        """Restores weights that a layer wrote and no update trains."""
        self.mark_trained(trained)
        with self.paused():
            for key in self._weights() - self._trained if self._trained else ():
                self.first[key].variable.assign(self.first[key].before, read_value=False)

    def statistics(self) -> list[tf.Variable]:
        """Variables that layers wrote, without weights to train and metrics: moving averages and the like."""
        weights = self._weights()
        written = [write.variable for key, write in self.first.items() if write.layers and key not in weights]
        metric = tf.VariableAggregation.SUM
        return [v for v in written if v.dtype.is_floating and v.aggregation != metric]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Does not record the writes of the body."""
        active, self.active = self.active, False
        try:
            yield
        finally:
            self.active = active

    def _weights(self) -> set[int]:
        """Keys of the written variables that were made as weights to train, whether frozen now or not."""
        made = set().union(*map(_weights_of, self.layers.values()))
        return self.first.keys() & made

    def _graphs(self) -> list[Graph]:
        """The graph that is traced now and those around it, up to where recording began; [] outside."""
        graph, graphs = _current_function_graph(), []
        while graph is not self._root:
            if graph is None:
                return []
            graphs.append(graph)
            graph = _function_graph(graph.outer_graph)
        return [*graphs, graph]


def variable_key(variable: tf.Variable) -> int:
    """A key that is the same for two Python objects that stand for the same variable."""
    return id(variable.handle)


def replica_copy(variable: keras.Variable | tf.Variable) -> tf.Variable:
    """This replica's copy of a variable."""
    variable = variable.value if isinstance(variable, keras.Variable) else variable
    return variable._get_on_device_or_primary() if isinstance(variable, DistributedVariable) else variable


def _weights_of(layer: keras.layers.Layer) -> set[int]:
    """Keys of a layer's variables that were made to train; freezing the layer does not change them."""
    copies = map(replica_copy, layer.weights)
    return {variable_key(copy) for copy in copies if copy.trainable}


def _trains_innermost(trained: set[int], layers: Iterable[keras.layers.Layer]) -> bool:
    """Whether any of `trained` belongs to the innermost of nested layers that has weights to train."""
    weights = next(filter(None, (_weights_of(layer) for layer in reversed([*layers]))), set())
    return bool(weights & trained)


def _function_graph(graph: Graph) -> Graph:
    """The graph itself if a function is traced into it; None for TensorFlow's outermost graph."""
    return graph if hasattr(graph, "outer_graph") else None


def _current_function_graph() -> Graph:
    return _function_graph(current_graph())


def _read(variable: tf.Variable, graph: Graph) -> tf.Tensor:
    """The variable's value, read in `graph` by an operation without control dependencies."""
    context: contextlib.AbstractContextManager[object] = tf.init_scope()
    if graph is not None:
        context = contextlib.nullcontext() if graph is _current_function_graph() else graph.as_default()
    with context, tf.control_dependencies(None):
        return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
