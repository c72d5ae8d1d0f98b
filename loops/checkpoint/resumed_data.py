"""An iterator of the data that continues where a checkpoint was made."""

from __future__ import annotations

import os

import tensorflow as tf

from ..data.batches import Batches, BatchIterator
from ..data.position import check_same_data, iterator_at, seeds_in
from .paths import iterator_in
from .tensor_file import TensorFile, is_written


def resumed_iterator(
    data: Batches | tf.data.Dataset, file: TensorFile | None
) -> BatchIterator | tf.data.Iterator:
    """An iterator of the data that continues where a checkpoint was made; from the beginning without one.

    The data itself stays as it is.

    Raises:
        ValueError: the checkpoint has no position in the data, or is of other data.
    """
    position = None if file is None else file.metadata["data"]
    if file is not None:
        if position is None:
            raise ValueError(
                f"`data` has no position in the checkpoint {file.path!r}, which was saved without an "
                "iterator: restore it without `data`."
            )
        check_same_data(position, data, file.path)
    if isinstance(data, tf.data.Dataset):
        seeds_in(data)  # TensorFlow is asked now, as it reads nothing in the background yet
        return iter(data) if file is None else _resumed(data, file)
    epoch, batch = (data.epoch, 0) if position is None else (position["epoch"], position["position"])
    if file is not None and "run" in file.metadata and batch == len(data):
        epoch, batch = epoch + 1, 0
    return data.iterator(epoch, batch)


def _resumed(data: tf.data.Dataset, file: TensorFile) -> tf.data.Iterator:
    """An iterator of the data where the checkpoint says."""
    position, run = file.metadata["data"] or {}, file.metadata.get("run")
    place = iterator_in(os.path.dirname(file.path))
    # `save` always writes one.
    saved = place if run is None or is_written(place) else None
    # An older version did not say whether a pass went on.
    within = saved is not None or run is None or run["batch"] not in (0, run["steps"])
    iterator = iterator_at(data, "data", position, position.get("in_pass", within), saved, file.path)
    return iter(data) if iterator is None else iterator
