"""Blocks: runs of layers that a cut should not go through, such as a residual unit or attention.

A cut in the middle of one would freeze query and key and train value, or give the two arms of a sum different
rates. In the graph of a Functional model a block ends where all that is computed so far goes on as one
tensor. A Sequential model's layers are a block each, and so are the child layers of a subclassed model, whose
graph nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from ..naming.model_tree import LayerNode, ModelTree
from ..private.keras_private import graph_nodes, is_graph_model


def blocks(tree: ModelTree) -> list[list[LayerNode]]:
    """The model's layers with weights in blocks, from the bottom to the top.

    Any layer that is no model counts as one, together with the layers inside it. Models inside are opened,
    where they are a block by themselves: Functional and Sequential ones within such, and any other one that
    has at most one sibling, as a backbone has its head. Else they are what their author calls a block.
    """
    nodes = {id(node.layer): node for node in tree.nodes}
    children: dict[int, list[keras.layers.Layer]] = {}
    for node in tree.nodes:
        if node.layer.weights:
            children.setdefault(id([tree.model, *node.ancestors][-1]), []).append(node.layer)

    def runs(model: keras.layers.Layer) -> Iterator[list[keras.layers.Layer]]:
        inside = children.get(id(model), [])
        known = is_graph_model(model)
        functional = known and not isinstance(model, keras.Sequential)
        for run, alone in (
            _graph_runs(graph_nodes(model)) if functional else (([one], True) for one in inside)
        ):
            model_alone = alone and isinstance(run[0], keras.Model)
            if model_alone and (known and is_graph_model(run[0]) or len(inside) <= 2):
                yield from runs(run[0])
            else:
                yield run

    found: list[list[LayerNode]] = []
    seen: set[int] = set()
    for run in runs(tree.model):  # a shared layer belongs to its first use
        fresh = [nodes[id(layer)] for layer in run if id(layer) in nodes and id(layer) not in seen]
        seen.update(id(node.layer) for node in fresh)
        if fresh:
            found.append(fresh)
    return found


def _graph_runs(graph: Sequence[Any]) -> Iterator[tuple[list[keras.layers.Layer], bool]]:
    """The blocks of a graph: their layers with weights, and whether they are one call."""
    weighty = [bool(getattr(node.operation, "weights", ())) for node in graph]
    for first, end in _spans(0, len(graph), _open_tensors(graph), weighty):
        layers = {
            id(node.operation): node.operation
            for node, counts in zip(graph[first:end], weighty[first:end])
            if counts
        }
        if layers:
            yield list(layers.values()), end - first == 1


def _open_tensors(graph: Sequence[Any]) -> list[int]:
    """For each place after a call, how many tensors pass it that meet again later; 1 if none meet.

    An input passes from its first reader on, and a mask does not count: both are there for the asking.
    """
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(graph):
        for tensor in node.input_tensors:
            readers.setdefault(id(tensor), []).append(index)
    # As bits of a number: the calls that depend on each tensor.
    after: dict[int, int] = {}
    for node in reversed(graph):
        for tensor in node.output_tensors:
            reached = 0
            for reader in readers.get(id(tensor), ()):
                reached |= 1 << reader
                for output in graph[reader].output_tensors:
                    reached |= after[id(output)]
            after[id(tensor)] = reached
    begins: list[list[int]] = [[] for _ in graph]
    for index, node in enumerate(graph):
        for tensor in node.output_tensors:
            if id(tensor) in readers and keras.backend.standardize_dtype(tensor.dtype) != "bool":
                begins[index if node.input_tensors else readers[id(tensor)][0]].append(id(tensor))
    counts = []
    passing: set[int] = set()
    for index, fresh in enumerate(begins):
        passing = {tensor for tensor in [*passing, *fresh] if readers[tensor][-1] > index}
        reached, meet = 0, False
        for tensor in passing:
            meet = meet or bool(reached & after[tensor])
            reached |= after[tensor]
        counts.append(len(passing) if meet else 1)
    return counts


def _spans(
    first: int, end: int, passing: Sequence[int], weighty: Sequence[bool]
) -> Iterator[tuple[int, int]]:
    """Blocks within `graph[first:end]`, given the tensors that pass after each call.

    What a long connection spans is no block where there are blocks of several layers within, as in NASNet.
    """
    fewest = min(passing[first : end - 1], default=1)
    ends = [place + 1 for place in range(first, end - 1) if passing[place] == fewest] + [end]
    pieces = list(zip([first, *ends], ends))
    if fewest > 1 and sum(sum(weighty[start:last]) > 1 for start, last in pieces) < 2:
        yield first, end
        return
    for start, last in pieces:
        if last - start > 1:
            yield from _spans(start, last, passing, weighty)
        else:
            yield start, last
