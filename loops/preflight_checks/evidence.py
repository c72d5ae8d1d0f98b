"""The inputs of the checks: labels, outputs, targets, gradients, or the reason why one is missing."""

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
from .trial import OverfitResult, Trial

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
    complete: bool  # whether `batches` are a whole pass over the data

    @property
    def counts(self) -> Array:
        """Examples of each class: int64, (classes,)."""
        return np.bincount(np.concatenate([*self.batches]), minlength=self.classes)

    @property
    def description(self) -> str:
        """Which examples were counted, in words."""
        return f"{'all' if self.complete else 'the first'} {sum(map(len, self.batches)):,} examples"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that was computed for the checks. Properties raise `NotApplicable` where they have no value."""

    step: TrainStep  # the user's
    sample: Sample  # the first batches of the data
    first_pass: Probe  # forward and backward over `sample`, before any training step
    last_operation: str  # the operation that the model ends in, see `probe.last_operation`
    groups: Sequence[TrainedGroup]  # the groups that train
    trial: Trial  # training steps on the data
    # A pass after the steps of `trial`; None unless a gradient of `first_pass` was 0.
    second_pass: Probe | None
    overfit: OverfitResult | None  # training on a few examples; None if the steps failed

    @property
    def loss(self) -> keras.losses.Loss:
        """The Keras loss."""
        loss = self.step.loss_and_metrics.keras_loss
        if loss is None:
            raise NotApplicable("the loss is a function of `(model, batch)`: what it compares is not known")
        return loss

    @property
    def outputs(self) -> Array:
        """Outputs of the network for all batches of `first_pass`: float32, (examples, ...)."""
        outputs = self.first_pass.outputs
        if not outputs or not all(map(tf.is_tensor, outputs)):
            raise NotApplicable("the network gives no single tensor")
        if len({tuple(each.shape[1:]) for each in outputs}) > 1:
            outputs = outputs[:1]
        return np.concatenate([tf.cast(each, tf.float32).numpy() for each in outputs])

    @property
    def targets(self) -> Array:
        """The targets `y` of the same batches as `outputs`: (examples, ...)."""
        targets = [keras.utils.unpack_x_y_sample_weight(batch)[1] for batch in self.first_pass.batches]
        if not all(map(tf.is_tensor, targets)) or targets[0].dtype == tf.string:
            raise NotApplicable("there is no single array of targets")
        if len({tuple(each.shape[1:]) for each in targets}) > 1:
            targets = targets[:1]
        return np.concatenate([each.numpy() for each in targets])

    @property
    def weighted(self) -> bool:
        """Whether examples have weights."""
        return any(len(batch) > 2 for batch in self.sample.batches if isinstance(batch, tuple))

    def inputs(self) -> Iterator[tuple[str, Array]]:
        """Name and values of each array of numbers in `x`, over all batches: (examples, elements)."""
        parts: dict[str, list[Array]] = {}
        for batch in self.sample.batches:
            for name, array in arrays_in(keras.utils.unpack_x_y_sample_weight(batch)[0], "x"):
                parts.setdefault(name, []).append(array.reshape(array.shape[0] if array.ndim else 1, -1))
        for name, arrays in parts.items():
            one_width = len({array.shape[1] for array in arrays}) == 1
            yield name, np.concatenate(arrays if one_width else [array.reshape(-1, 1) for array in arrays])

    @property
    def labels(self) -> Labels:
        """The class of each example, where the targets are one class for each."""
        loss, known = self.loss, self.sample.labels
        size = self.sample.batch_size
        if known is None:
            targets = [keras.utils.unpack_x_y_sample_weight(batch)[1] for batch in self.sample.batches]
            if not all(map(tf.is_tensor, targets)):
                raise NotApplicable("there is no single array of targets")
            parts = [each.numpy() for each in targets]
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
