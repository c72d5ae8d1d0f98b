"""Models that are made for batches of one size: those with a state for each example, as of a stateful RNN."""

from __future__ import annotations

import keras
import tensorflow as tf

from ...optim.common.types import Batch
from ...optim.naming.stable_names import tree_of
from ..data.arrays import tensors_in
from ..data.batches import BatchIterator, DataIterator
from ..distribute.scope import replicas_of


def state_sizes(model: keras.Model) -> set[int]:
    """For how many examples a model has states; empty for none. It takes no batches of other sizes."""
    rnns = [node.layer for node in tree_of(model).nodes if getattr(node.layer, "stateful", False)]
    states = [state for layer in rnns for state in tf.nest.flatten(getattr(layer, "states", None) or ())]
    return {state.shape[0] for state in states if len(state.shape)}


def batch_size_of(model: keras.Model) -> int | None:
    """The number of examples that a model's states or inputs are made for; None for any.

    Inputs with a `batch_size` may take others: most models do not ask for the number.
    """
    inputs = [tensor.shape[:1] for tensor in getattr(model, "inputs", None) or ()]
    sizes = {*(shape[0] for shape in inputs if shape), *state_sizes(model)} - {None}
    return sizes.pop() if len(sizes) == 1 else None


def check_batch_size(
    made_for: set[int], source: DataIterator | Batch, strategy: tf.distribute.Strategy | None
) -> None:
    """Raises ValueError if a batch, or those of an iterator, are not of the size of a model's states."""
    replicas = replicas_of(strategy)
    if isinstance(source, BatchIterator):
        data = source.batches
        sizes = {data.batch_size, data.examples % data.batch_size or data.batch_size}
    else:
        first = tensors_in(getattr(source, "element_spec", source))[0]
        sizes = set(first.shape[:1] if first.shape.rank else ()) - {None}
    for wanted in sorted(size * replicas for size in made_for):
        for size in sorted(sizes - {wanted}):
            parts = f", {wanted // replicas} for each of {replicas} replicas" if replicas > 1 else ""
            raise ValueError(
                f"`x` has a batch of {size} examples, and the model a stateful layer with states for {wanted}"
                f"{parts}: pass batches of {wanted} alone, or make the model for batches of another size."
            )
