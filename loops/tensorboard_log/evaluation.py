"""An evaluation of many examples: the first ones, those with the largest loss, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ...optim.common.types import Array
from .confusion import MAX_CLASSES, SHOWN_CLASSES, confusion_counts, confusion_picture
from .examples import Examples, is_image_shape
from .labels import Labels, labels_of
from .pictures import BLACK, GREEN, RED, Scale, grid, resized, tile

# With more classes than this, the confusion matrix takes too much memory.
_COUNTED_CLASSES = 2000
_TILE = 96  # pixels of an image's longer side


class Evaluation(NamedTuple):
    """Results of `evaluate_examples`."""

    first: Examples | None  # the first `count` examples
    worst: Examples | None  # those with the largest loss, in order; None without a loss for each
    counts: Array | None  # `confusion_counts`; None where there are no classes
    examples: int  # number of examples that were read
    batches: int
    logits: bool  # whether a single prediction is a logit

    @property
    def read(self) -> str:
        """How much data was read, in words."""
        return f"{self.examples:,} examples ({self.batches:,} batches)"


def evaluate_examples(batches: Iterable[Examples], count: int, logits: bool) -> Evaluation:
    """Goes through batches of examples; keeps the first `count`, and the `count` with the largest loss."""
    first: Examples | None = None
    worst: Examples | None = None
    counts: Array | None = None
    examples = batches_read = 0
    for batch in batches:
        batches_read += 1
        examples += len(batch.images)
        if first is None or len(first.images) < count:
            first = (batch if first is None else _concatenated(first, batch)).select(slice(count))
        labels = labels_of(batch.truth, batch.predictions, logits)
        if labels is not None and labels.classes <= _COUNTED_CLASSES:
            more = confusion_counts(labels.truth.reshape(-1), labels.predicted.reshape(-1), labels.classes)
            counts = more if counts is None else counts + more
        if batch.losses is None and labels is not None:  # a custom loss: use the cross-entropy instead
            cross_entropy = -np.log(np.maximum(labels.true_probability, 1e-30))
            batch = batch._replace(losses=cross_entropy.reshape(len(cross_entropy), -1).mean(-1))
        if batch.losses is not None:
            worst = batch if worst is None else _concatenated(worst, batch)
            assert worst.losses is not None
            # NaN counts as the largest loss.
            order = np.argsort(-np.nan_to_num(worst.losses, nan=np.inf), kind="stable")
            worst = worst.select(order[:count])
    return Evaluation(first, worst, counts, examples, batches_read, logits)


def _concatenated(one: Examples, other: Examples) -> Examples:
    """Both in one; `other` is left out if its images have another size."""
    if one.images.shape[1:] != other.images.shape[1:]:
        return one
    pairs = zip(one[1:], other[1:])
    others = (None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs)
    return Examples(np.concatenate([one.images, other.images]), *others)


def examples_picture(examples: Examples, scale: Scale, logits: bool) -> Array:
    """Images side by side, each with its true and its predicted class.

    Where outputs are images, input, truth and output are in a row; also where each pixel has a class, of
    which the first is black and the last white.
    """
    images = [[resized(scale.picture(image), _TILE)] for image in examples.images]
    labels = labels_of(examples.truth, examples.predictions, logits)
    shown, own = [examples.truth, examples.predictions], None
    if labels is not None and labels.truth.ndim == 3:
        shown = [labels.truth[..., None], labels.predicted[..., None]]
        own = Scale(np.zeros(1), np.full(1, max(labels.classes - 1, 1)), "")
    for outputs in shown:
        if outputs is not None and is_image_shape(outputs.shape):
            own = own if own is not None and len(own.low) in (1, outputs.shape[-1]) else Scale.of(outputs)
            for row, output in zip(images, outputs):
                row.append(resized(own.picture(output), _TILE))
    captions = _captions(examples, labels)
    frames = [BLACK] * len(images)
    if labels is not None and labels.truth.ndim == 1:
        frames = [GREEN if right else RED for right in labels.truth == labels.predicted]
    rows = zip(images, captions, frames)
    return grid([tile(_beside(row), caption, frame) for row, caption, frame in rows])


def _beside(row: list[Array]) -> Array:
    height = max(picture.shape[0] for picture in row)
    padded = [np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0))) for picture in row]
    return np.concatenate(padded, axis=1)


def _captions(examples: Examples, labels: Labels | None) -> list[str]:
    if labels is not None and labels.truth.ndim == 1:
        rows = zip(labels.truth, labels.predicted, labels.probability)
        return [f"{t} {s:.0%}" if t == p else f"{t}>{p} {s:.0%}" for t, p, s in rows]
    truth, predictions = examples.truth, examples.predictions
    if truth is None or predictions is None or not truth.size == predictions.size == len(truth):
        return [""] * len(examples.images)
    return [f"{t:.3g}>{p:.3g}" for t, p in zip(truth.reshape(-1), predictions.reshape(-1))]


def matrix_picture(counts: Array) -> tuple[Array, str]:
    """A picture of the confusion matrix, and its description."""
    words = "Rows: true class; columns: predicted. The colour is the share of the row."
    if len(counts) > MAX_CLASSES:
        words += f" Of {len(counts):,} classes, the {SHOWN_CLASSES} with most mistakes."
    return confusion_picture(counts), words
