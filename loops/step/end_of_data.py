"""Finds out when the data of a step ends, and reports accumulated gradients that are left then."""

from __future__ import annotations

import weakref

from tqdm import tqdm

from ..data.batches import BatchIterator, DataIterator
from ..distribute.cluster import is_chief
from ..support.tensorflow_private import length_of


class EndOfData:
    """Detects, as far as possible, the end of the iterators that a step reads; reports what is left.

    Args:
        accumulate: how many batches make an update.
    """

    def __init__(self, accumulate: int) -> None:
        self._accumulate = accumulate
        self._read: weakref.WeakKeyDictionary[DataIterator, int] = weakref.WeakKeyDictionary()
        self._reported = False

    def reached(self, iterator: DataIterator, requested: int, ran: int) -> bool:
        """Whether the data has ended after a call of the step; call it after each.

        The end of a dataset's iterator is only seen at the next call, unless the dataset has a known length
        and the step has read all of it.
        """
        if isinstance(iterator, BatchIterator):
            return not iterator.remaining
        self._read[iterator] = self._read.get(iterator, 0) + ran
        return ran < requested or self._read[iterator] == length_of(iterator)

    def report_applied(self, batches: int) -> None:
        """Prints, once, that gradients of some batches were left when the data ended, and were applied."""
        if not self._reported:
            self._reported = self._report(
                batches,
                "were left when the data ended: they made an update too (`carry=True` would keep them).",
            )

    def report_waiting(self, batches: int) -> None:
        """Prints that gradients of some batches wait for more data, if any do."""
        self._report(batches, "wait for more data to make an update: `step.flush()` applies them now.")

    def _report(self, batches: int, text: str) -> bool:
        if batches and is_chief():
            of = "1 batch" if batches == 1 else f"{batches} batches"
            tqdm.write(f"`accumulate` is {self._accumulate}, and the gradients of {of} {text}")
        return batches > 0
