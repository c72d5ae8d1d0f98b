"""Reading data so that the run that trains on it does not notice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...optim.common.types import Batch
from ..support.dataset_copy import dataset_copy
from ..support.dataset_order import changes_when_read
from .batches import Batches, Data


def without_side_effects(data: Data, name: str) -> Iterable[Batch]:
    """The batches of some data, in the same order each time: of a `Batches`, that of its first epoch.

    Args:
        data: it stays where it is; so do the seeds of its shuffles, and its caches.
        name: the caller's name for it.

    Raises:
        ValueError: a dataset that TensorFlow cannot copy.
    """
    if isinstance(data, Batches):
        return _FirstEpoch(data)
    if not changes_when_read(data):
        return data
    try:
        return dataset_copy(data)
    except ValueError as error:
        raise ValueError(
            f"`{name}` is a shuffled or cached dataset, which cannot be read beside the run: {error}. Pass a "
            "`loops.Batches`, or a dataset without `shuffle` and `cache` for validation."
        ) from error


class _FirstEpoch:
    def __init__(self, data: Batches) -> None:
        self._data = data

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._data.iterator())
