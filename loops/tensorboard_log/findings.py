"""What an evaluation of many examples found: the first, the worst, which classes are taken for which."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ...optim.common.types import Array
from .confusion import MOST_CLASSES, SHOWN_OF_MANY, confusion_counts, confusion_picture
from .examples import Examples, is_image_shape
from .labels import Labels, labels_of
from .pictures import BLACK, GREEN, RED, Scale, grid, resized, tile

# Beyond so many classes the matrix itself takes too much memory.
_COUNTED_CLASSES = 2000
_TILE = 96  # pixels of an image's longer side


class Findings(NamedTuple):
    """What was found."""

    first: Examples | None  # the first ones
    worst: Examples | None  # those of the largest loss, in order; None where the loss gives none for each
    counts: Array | None  # `confusion_counts`; None where there are no classes
    examples: int  # how many were read
    batches: int
    logits: bool  # whether a single prediction is a logit

    @property
    def read(self) -> str:
        """How much was read, in words."""
        return f"{self.examples:,} examples ({self.batches:,} batches)"


def find(parts: Iterable[Examples], count: int, logits: bool) -> Findings:
    """Goes through examples, those of a batch at a time; keeps `count` as the first, and as the worst."""
    first: Examples | None = None
    worst: Examples | None = None
    counts: Array | None = None
    examples = batches = 0
    for part in parts:
        batches += 1
        examples += len(part.images)
        if first is None or len(first.images) < count:
            first = part.part(slice(count)) if first is None else _joined(first, part).part(slice(count))
        labels = labels_of(part.truth, part.predictions, logits)
        if labels is not None and labels.classes <= _COUNTED_CLASSES:
            more = confusion_counts(labels.truth.reshape(-1), labels.predicted.reshape(-1), labels.classes)
            counts = more if counts is None else counts + more
        if part.losses is None and labels is not None:  # a loss of one's own: how unlikely was the truth?
            surprise = -np.log(np.maximum(labels.true_share, 1e-30))
            part = part._replace(losses=surprise.reshape(len(surprise), -1).mean(-1))
        if part.losses is not None:
            worst = part if worst is None else _joined(worst, part)
            assert worst.losses is not None
            # NaN is the worst of all.
            order = np.argsort(-np.nan_to_num(worst.losses, nan=np.inf), kind="stable")
            worst = worst.part(order[:count])
    return Findings(first, worst, counts, examples, batches, logits)


def _joined(one: Examples, other: Examples) -> Examples:
    """Both together, of images of one size: those of another size than the first are left out."""
    if one.images.shape[1:] != other.images.shape[1:]:
        return one
    pairs = zip(one[1:], other[1:])
    others = (None if a is None or b is None else np.concatenate([a, b]) for a, b in pairs)
    return Examples(np.concatenate([one.images, other.images]), *others)


def examples_picture(examples: Examples, scale: Scale, logits: bool) -> Array:
    """Images side by side, each with what it is and what the network takes it for.

    A network whose outputs are images has input, truth and output in a row; so has one that gives each pixel
    a class, of which black is the first and white the last.
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
        rows = zip(labels.truth, labels.predicted, labels.share)
        return [f"{t} {s:.0%}" if t == p else f"{t}>{p} {s:.0%}" for t, p, s in rows]
    truth, predictions = examples.truth, examples.predictions
    if truth is None or predictions is None or not truth.size == predictions.size == len(truth):
        return [""] * len(examples.images)
    return [f"{t:.3g}>{p:.3g}" for t, p in zip(truth.reshape(-1), predictions.reshape(-1))]


def matrix_picture(counts: Array) -> tuple[Array, str]:
    """The confusion matrix, and what to know of it."""
    words = "Rows: true class; columns: predicted. The colour is the share of the row."
    if len(counts) > MOST_CLASSES:
        words += f" Of {len(counts):,} classes, the {SHOWN_OF_MANY} that are mistaken most often."
    return confusion_picture(counts), words
