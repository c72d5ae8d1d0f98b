"""What the checks judge, each part of it under its name, or why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ...optim.common.types import Array
from ..loss.labels import takes_class_indices
from ..step.train_step import TrainStep
from .probe import Probe
from .rates import TrainedGroup
from .report import NotApplicable
from .sample import Sample, arrays_in
from .trial import Learned, Trial

CATEGORICAL = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
)
BINARY = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)


class Labels(NamedTuple):
    """The class of each example."""

    batches: Sequence[Array]  # int, (examples,) each, in the order that they are read
    classes: int  # how many the network tells apart
    complete: bool  # whether they are a whole pass over the data

    @property
    def counts(self) -> Array:
        """Examples of each class: int64, (classes,)."""
        return np.bincount(np.concatenate([*self.batches]), minlength=self.classes)

    @property
    def where(self) -> str:
        """Of which examples the counts are, in words."""
        return f"{'all' if self.complete else 'the first'} {sum(map(len, self.batches)):,} examples"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was seen of a step and its data. Properties raise `NotApplicable` if there is nothing to see."""

    step: TrainStep  # as it was given
    sample: Sample  # of its data
    start: Probe  # a pass over that before any step
    operation: str  # what the model ends in, see `last_operation`
    groups: Sequence[TrainedGroup]  # what trains
    trial: Trial  # some steps
    later: Probe | None  # a pass after them, if `start` left it open which variables have a gradient
    learned: Learned | None  # what became of a few examples; None if the steps failed

    @property
    def loss(self) -> keras.losses.Loss:
        """The Keras loss."""
        found = self.step.loss_and_metrics.keras_loss
        if found is None:
            raise NotApplicable("the loss is a function of `(model, batch)`: what it compares is not known")
        return found

    @property
    def outputs(self) -> Array:
        """What the network gave for all that ran, (examples, ...)."""
        found = self.start.outputs
        if not found or not all(map(tf.is_tensor, found)):
            raise NotApplicable("the network gives no single tensor")
        if len({tuple(each.shape[1:]) for each in found}) > 1:
            found = found[:1]
        return np.concatenate([tf.cast(each, tf.float32).numpy() for each in found])

    @property
    def targets(self) -> Array:
        """`y` of the batches that `outputs` are of."""
        found = [keras.utils.unpack_x_y_sample_weight(batch)[1] for batch in self.start.batches]
        if not all(map(tf.is_tensor, found)) or found[0].dtype == tf.string:
            raise NotApplicable("there is no single array of targets")
        if len({tuple(each.shape[1:]) for each in found}) > 1:
            found = found[:1]
        return np.concatenate([each.numpy() for each in found])

    @property
    def weighted(self) -> bool:
        """Whether examples have weights."""
        return any(len(batch) > 2 for batch in self.sample.batches if isinstance(batch, tuple))

    def inputs(self) -> Iterator[tuple[str, Array]]:
        """Every array of numbers in `x`, of all batches that were read; ragged ones as their values."""
        parts: dict[str, list[Array]] = {}
        for batch in self.sample.batches:
            for name, array in arrays_in(keras.utils.unpack_x_y_sample_weight(batch)[0], "x"):
                parts.setdefault(name, []).append(array.reshape(array.shape[0] if array.ndim else 1, -1))
        for name, arrays in parts.items():
            one_width = len({array.shape[1] for array in arrays}) == 1
            yield name, np.concatenate(arrays if one_width else [array.reshape(-1, 1) for array in arrays])

    @property
    def labels(self) -> Labels:
        """The classes of examples."""
        loss, known = self.loss, self.sample.labels
        size = self.sample.batch_size
        if known is None:
            some = [keras.utils.unpack_x_y_sample_weight(batch)[1] for batch in self.sample.batches]
            if not all(map(tf.is_tensor, some)):
                raise NotApplicable("there is no single array of targets")
            parts = [each.numpy() for each in some]
        else:
            parts = [known[first : first + size] for first in range(0, len(known), size)]
        complete = known is not None or self.sample.complete
        width = int(np.prod(parts[0].shape[1:], dtype=int))
        if takes_class_indices(loss) and width == 1:
            batches, classes = [part.reshape(-1) for part in parts], self.outputs.shape[-1]
        elif isinstance(loss, CATEGORICAL[1:]) and parts[0].ndim == 2 and width > 1:
            batches, classes = [part.argmax(-1) for part in parts], width
        elif isinstance(loss, BINARY) and width == 1 and set(np.unique(parts[0])) <= {0, 1}:
            batches, classes = [part.reshape(-1) > 0.5 for part in parts], 2
        else:
            raise NotApplicable("the targets are not one class for each example")
        batches = [batch.astype(int) for batch in batches]
        if any(len(batch) and (batch.min() < 0 or batch.max() >= classes) for batch in batches):
            raise NotApplicable("there are labels without an output (see `step`)")
        return Labels(batches, classes, complete)
