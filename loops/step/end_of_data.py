"""What a step has accumulated when its data ends, and when that is."""

from __future__ import annotations

import weakref

from tqdm import tqdm

from ..data.batches import BatchIterator, DataIterator
from ..distribute.cluster import is_chief
from ..support.tensorflow_private import length_of


class EndOfData:
    """Knows, as far as can be known, when the iterators that a step reads have ended; says what is left then.

    Args:
        accumulate: how many batches make an update.
    """

    def __init__(self, accumulate: int) -> None:
        self._accumulate = accumulate
        self._read: weakref.WeakKeyDictionary[DataIterator, int] = weakref.WeakKeyDictionary()
        self._has_told = False

    def reached(self, iterator: DataIterator, wanted: int, ran: int) -> bool:
        """Whether nothing is left after a call of the step, which is told here.

        That a dataset's iterator has ended shows at the next call, unless its dataset has a known length and
        the step has read all of it.
        """
        if isinstance(iterator, BatchIterator):
            return not iterator.remaining
        self._read[iterator] = self._read.get(iterator, 0) + ran
        return ran < wanted or self._read[iterator] == length_of(iterator)

    def tell_applied(self, batches: int) -> None:
        """Says, once, that gradients of some batches were left when the data ended, and were applied."""
        if not self._has_told:
            self._has_told = self._tell(
                batches,
                "were left when the data ended: they made an update too (`carry=True` would keep them).",
            )

    def tell_waiting(self, batches: int) -> None:
        """Says that gradients of some batches wait, if any do."""
        self._tell(batches, "wait for more data to make an update: `step.flush()` applies them now.")

    def _tell(self, batches: int, what: str) -> bool:
        if batches and is_chief():
            of = "1 batch" if batches == 1 else f"{batches} batches"
            tqdm.write(f"`accumulate` is {self._accumulate}, and the gradients of {of} {what}")
        return batches > 0
