"""The graph of the traced step, for the tab Graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from ...optim.common.types import Array
from ...optim.private.tensorflow_private import node_lists
from ..step.train_step import TrainStep
from .content import Board, Content
from .event_writer import EventWriter

GraphDef: TypeAlias = tf.compat.v1.GraphDef
Traced: TypeAlias = tf.types.experimental.ConcreteFunction

# Constants of more bytes lose their values. TensorBoard shows no attribute larger than this either.
_LARGE = 1024


class Graph(Content):
    """The graph of the step, in the run `train`, once it has been traced."""

    _written = True

    def on_session_begin(self, board: Board, step: int, epoch: int) -> None:
        self._written, self._epoch = False, epoch

    def on_steps(self, board: Board, first: int, values: dict[str, Array]) -> None:
        if self._written:
            return
        self._written = True
        step, epoch = board.train_step, self._epoch
        traced = step.traced
        if traced is not None:  # None on parameter servers, whose workers trace, and with eager functions
            names = _names_of_handles(step)

            # In the background thread: a large graph takes a second or two.
            def write(file: EventWriter) -> None:
                file.write_graph(epoch, graph_of_step(traced, names))

            board.files.submit("train", epoch, write)


def _names_of_handles(step: TrainStep) -> dict[int, str]:
    """Maps the `id` of each variable's handle to the variable's name; each replica has a copy."""
    names = {}
    for name, variable in step.state().items():
        value = variable.value if isinstance(variable, keras.Variable) else variable
        copies = [value] if step.strategy is None else step.strategy.experimental_local_results(value)
        for number, copy in enumerate(copies):
            names[id(copy.handle)] = f"{name}/replica_{number}" if number else name
    return names


def graph_of_step(traced: Traced, names: Mapping[int, str]) -> GraphDef:
    """The graph of one step, with operations under the names of their layers.

    Of a loop over many steps, it is the body of the loop. Its placeholders are variables, by name, and
    inputs. Constants of more than a kilobyte lose their values, but not their shapes, so the graph cannot be
    run. `names` maps the `id` of a variable's handle to the variable's name.
    """
    graph = traced.graph.as_graph_def(add_shapes=True)
    known = {inner.op.name: names[id(outer)] for outer, inner in traced.graph.captures if id(outer) in names}
    loops = [node for node in graph.node if node.op in ("While", "StatelessWhile")]
    if len(loops) == 1 and loops[0].name == "while":
        graph = _body(graph, loops[0], known)
    else:
        _rename(graph, {name: f"variables/{known[name]}" for name in known})
    for nodes in node_lists(graph):
        _strip(nodes)
    return graph


def _body(graph: GraphDef, loop: Any, known: Mapping[str, str]) -> GraphDef:
    """The body of a loop as a graph, with the functions that it calls."""
    functions = {function.signature.name: function for function in graph.library.function}
    condition, body = (functions[loop.attr[name].func.name] for name in ("cond", "body"))
    result = GraphDef(versions=graph.versions)
    renamed: dict[str, str] = {}
    for argument, operand in zip(body.signature.input_arg, loop.input):
        outer = operand.partition(":")[0]
        is_variable = argument.type == tf.resource.as_datatype_enum
        name = known.get(outer, argument.name if is_variable else outer.removeprefix("while/"))
        renamed[argument.name] = f"{'variables' if is_variable else 'inputs'}/{name}"
        node = result.node.add(name=argument.name, op="Placeholder")
        node.attr["dtype"].type = argument.type
    for index, attributes in body.arg_attr.items():
        if "_output_shapes" in attributes.attr:
            result.node[index].attr["_output_shapes"].CopyFrom(attributes.attr["_output_shapes"])
    for node in body.node_def:
        added = result.node.add()
        added.CopyFrom(node)
        # In a function an output is `node:name of the output:index`, in a graph it is `node:index`.
        added.input[:] = [_output(name) for name in node.input]
    _rename(result, renamed)
    others = [each for name, each in functions.items() if each not in (condition, body)]
    result.library.function.extend(others)
    return result


def _output(name: str) -> str:
    node, _, index = name.partition(":")
    number = index.rpartition(":")[2]
    return node if number in ("", "0") else f"{node}:{number}"


def _rename(graph: GraphDef, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.name = names.get(node.name, node.name)
        for position, operand in enumerate(node.input):
            name, colon, index = operand.partition(":")
            if name in names:
                node.input[position] = names[name] + colon + index


def _strip(nodes: Iterable[Any]) -> None:
    for node in nodes:
        if node.op == "Const" and node.attr["value"].ByteSize() > _LARGE:
            tensor = node.attr["value"].tensor
            shape, dtype = tensor.tensor_shape, tensor.dtype
            stripped = type(tensor)(dtype=dtype)  # a tensor without values is all zeros
            stripped.tensor_shape.CopyFrom(shape)
            tensor.CopyFrom(stripped)
