"""Blocks: runs of layers that a cut should not go through, such as a residual unit or attention.

A cut in the middle of one would freeze query and key and train value, or give the two arms of a sum different
rates. In the graph of a Functional model a block ends where all that is computed so far goes on as one
tensor. A Sequential model's layers are a block each, and so are the child layers of a subclassed model, whose
graph nobody knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from ..naming.model_tree import LayerNode, ModelTree
from ..private.keras_private import graph_nodes, is_graph_model


def blocks(tree: ModelTree) -> list[list[LayerNode]]:
    """The model's layers with weights in blocks, from the bottom to the top.

    Any layer that is no model counts as one, together with the layers inside it. A model inside, if it is no
    part of a block, is opened: a Functional one, a Sequential one within those two, and any that has at most
    one sibling, as a backbone has its head. Others are what their author makes a block of.
    """
    nodes = {id(node.layer): node for node in tree.nodes}
    children: dict[int, list[keras.layers.Layer]] = {}
    for node in tree.nodes:
        if node.layer.weights:
            children.setdefault(id([tree.model, *node.ancestors][-1]), []).append(node.layer)

    def runs(model: keras.layers.Layer) -> Iterator[list[keras.layers.Layer]]:
        inside = children.get(id(model), [])
        chain = (([layer], True) for layer in inside)
        for run, alone in _graph_runs(graph_nodes(model)) if _is_functional(model) else chain:
            if alone and isinstance(run[0], keras.Model) and _opens(run[0], model, len(inside)):
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


def _is_functional(model: keras.layers.Layer) -> bool:
    return is_graph_model(model) and not isinstance(model, keras.Sequential)


def _opens(model: keras.Model, around: keras.layers.Layer, siblings: int) -> bool:
    """Whether a model inside of another, one of so many layers with weights, is no block but holds some."""
    return _is_functional(model) or siblings <= 2 or (is_graph_model(around) and is_graph_model(model))


def _graph_runs(graph: Sequence[Any]) -> Iterator[tuple[list[keras.layers.Layer], bool]]:
    """The blocks of a graph: their layers with weights, and whether a block is one call."""
    passing = _Passing(graph)
    for first, end in passing.blocks(0, len(graph), frozenset()):
        layers = {
            id(graph[at].operation): graph[at].operation for at in range(first, end) if passing.weights[at]
        }
        if layers:
            yield list(layers.values()), end - first == 1


class _Passing:
    """The tensors that pass from one part of a graph to the next, for each place between two of its calls.

    An input passes from its first reader on. Numbers that are no features, such as a mask or indices, do not
    count.
    """

    def __init__(self, graph: Sequence[Any]) -> None:
        # For each call, whether its layer has weights.
        self.weights = [bool(getattr(node.operation, "weights", ())) for node in graph]
        self._readers: dict[int, list[int]] = {}  # tensor -> indices of calls
        for index, node in enumerate(graph):
            for tensor in node.input_tensors:
                self._readers.setdefault(id(tensor), []).append(index)
        # The calls that depend on each tensor, as bits of a number.
        self._after: dict[int, int] = {}
        for node in reversed(graph):
            for tensor in node.output_tensors:
                reached = 0
                for reader in self._readers.get(id(tensor), ()):
                    reached |= 1 << reader
                    for output in graph[reader].output_tensors:
                        reached |= self._after[id(output)]
                self._after[id(tensor)] = reached
        fresh: list[set[int]] = [set() for _ in graph]
        for index, node in enumerate(graph):
            for tensor in node.output_tensors:
                floating = "float" in keras.backend.standardize_dtype(tensor.dtype)
                if floating and id(tensor) in self._readers:
                    fresh[index if node.input_tensors else self._readers[id(tensor)][0]].add(id(tensor))
        self._tensors: list[set[int]] = []  # that pass after each call
        for index, begun in enumerate(fresh):
            before = self._tensors[-1] if self._tensors else set()
            self._tensors.append({t for t in before | begun if self._readers[t][-1] > index})

    def blocks(self, first: int, end: int, aside: frozenset[int]) -> Iterator[tuple[int, int]]:
        """First call and end of each block among the calls from `first` to `end`.

        A block ends where one tensor alone passes, those `aside` not counted. What a long connection spans,
        as a condition that every block reads, or one to the block after the next as in NASNet, is no block if
        there are several within.
        """
        pieces = self._cut(first, end, aside, 1)
        places = range(first, end - 1)
        if len(pieces) == 1 and end - first > 1:
            lives = Counter(tensor for place in places for tensor in self._tensors[place] - aside)
            without = aside | {tensor for tensor, _ in lives.most_common(1)}
            fewest = min(self._count(place, aside) for place in places)
            for others, most in ((without, 1), (aside, fewest)):
                pieces = self._cut(first, end, others, most)
                if sum(self._branches(*piece, others) for piece in pieces) > 1:
                    aside = others
                    break
            else:
                pieces = [(first, end)]
        for start, last in pieces:
            if (start, last) == (first, end):
                yield first, end
            else:
                yield from self.blocks(start, last, aside)

    def _cut(self, first: int, end: int, aside: frozenset[int], most: int) -> list[tuple[int, int]]:
        """The calls cut wherever at most so many tensors pass."""
        ends = [at + 1 for at in range(first, end - 1) if self._count(at, aside) <= most] + [end]
        return list(zip([first, *ends], ends))

    def _count(self, place: int, aside: frozenset[int]) -> int:
        """How many tensors pass, if some of them meet again; else 1."""
        tensors, reached, meet = self._tensors[place] - aside, 0, False
        for tensor in tensors:
            meet = meet or bool(reached & self._after[tensor])
            reached |= self._after[tensor]
        return len(tensors) if meet else 1

    def _branches(self, first: int, end: int, aside: frozenset[int]) -> bool:
        """Whether calls have several layers with weights, and read more than once what comes in."""
        entering = self._tensors[first - 1] - aside if first else ()
        reads = (sum(first <= reader < end for reader in self._readers[tensor]) for tensor in entering)
        return sum(self.weights[first:end]) > 1 and any(count > 1 for count in reads)
