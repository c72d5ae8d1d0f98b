"""Looking at the labels of what a step is to run, each `Batches` once."""

from __future__ import annotations

import weakref

import keras

from ...optim.common.types import Tensors
from ..data.batches import Batches, BatchIterator, DataIterator
from .labels import check_label_values, on_host
from .loss_and_metrics import LossAndMetrics


class LabelCheck:
    """Checks that labels name classes that there are, once it is known how many; raises LabelError.

    Labels that lie on an accelerator, or that a dataset or a transform makes, are left to TensorFlow.
    """

    def __init__(self, loss_and_metrics: LossAndMetrics) -> None:
        self._loss_and_metrics = loss_and_metrics
        self._checked: weakref.WeakSet[Batches] = weakref.WeakSet()

    def batch(self, labels: Tensors) -> None:
        """Checks the labels of one batch."""
        classes = self._loss_and_metrics.classes
        if classes is not None and labels is not None and on_host(labels):
            check_label_values(labels, classes)

    def data(self, iterator: DataIterator) -> None:
        """Checks the labels of all that an iterator of a `Batches` reads."""
        if not isinstance(iterator, BatchIterator) or iterator.batches.reader.transform is not None:
            return
        data = iterator.batches
        if data not in self._checked and self._loss_and_metrics.classes is not None:
            self.batch(keras.utils.unpack_x_y_sample_weight(data.arrays)[1])
            self._checked.add(data)
