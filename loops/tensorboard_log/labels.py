"""True and predicted classes of examples, and their probabilities."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...optim.common.types import Array


class Labels(NamedTuple):
    """Classes of examples, or of each pixel of them; arrays are (examples,) or (examples, height, width)."""

    truth: Array  # class indices, int64
    predicted: Array  # class indices, int64
    probability: Array  # of the predicted class, 0 to 1
    true_probability: Array  # of the true class
    classes: int  # number of classes


def labels_of(truth: Array | None, predictions: Array | None, logits: bool = False) -> Labels | None:
    """The classes of examples; None if this is no classification, or each example may have several labels.

        predictions (..., K), truth (...) or (..., 1) of whole numbers    class indices
        predictions (batch, K), truth (batch, K) that sums to 1           one-hot, or a mixture
        predictions (batch,) or (batch, 1), truth of 0 and 1              two classes

    Args:
        truth, predictions: (batch, ...). Predictions for several classes that do not sum to 1 are logits.
        logits: whether a single prediction is a logit.
    """
    if truth is None or predictions is None or predictions.ndim == 0 or truth.dtype.kind not in "biuf":
        return None
    scores = predictions.astype(np.float64)
    if scores.ndim == 1 or scores.shape[-1] == 1:
        return _binary_labels(truth, scores, logits)
    if truth.shape == scores.shape:
        if truth.ndim != 2 or (truth < 0).any() or not np.allclose(truth.sum(-1), 1, atol=1e-3):
            return None
        indices = truth.argmax(-1)
    else:
        indices = truth[..., 0] if truth.shape == (*scores.shape[:-1], 1) else truth
        if indices.shape != scores.shape[:-1] or (indices != np.floor(indices)).any():
            return None
    with np.errstate(invalid="ignore"):  # infinite scores give probabilities of NaN
        if (scores < 0).any() or not np.allclose(scores.sum(-1), 1, atol=1e-2):
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            scores = powers / powers.sum(-1, keepdims=True)
    indices, classes = indices.astype(np.int64), scores.shape[-1]
    true_probability = np.take_along_axis(scores, np.clip(indices, 0, classes - 1)[..., None], -1)[..., 0]
    return Labels(indices, scores.argmax(-1), scores.max(-1), true_probability, classes)


def _binary_labels(truth: Array, scores: Array, logits: bool) -> Labels | None:
    flat, scores = truth.reshape(-1), scores.reshape(-1)
    if flat.shape != scores.shape or len(flat) != len(truth) or not np.isin(flat, (0, 1)).all():
        return None
    ones = 1 / (1 + np.exp(-np.clip(scores, -700, 700))) if logits else scores
    above = ones > 0.5
    probability, true_probability = np.where(above, ones, 1 - ones), np.where(flat == 1, ones, 1 - ones)
    return Labels(flat.astype(np.int64), above.astype(np.int64), probability, true_probability, 2)
