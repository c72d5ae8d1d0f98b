"""The position in the data: saved in a checkpoint, and restored from it."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import tensorflow as tf

from ...optim.common.readable import readable
from ..support.tensorflow_private import dataset_of, iterator_not_saved
from .batches import Batches, BatchIterator, Data, DataIterator
from .likeness import likeness_of


def position_of(iterator: DataIterator) -> dict[str, Any]:
    """Returns as JSON the position of a `BatchIterator`, and the settings that determine its order.

    For an iterator of a `tf.data.Dataset` it says only that: TensorFlow saves its position in a file of its
    own, see `write_iterator`.
    """
    if not isinstance(iterator, BatchIterator):
        data = dataset_of(iterator)
        return {"kind": "dataset", "likeness": {} if data is None else likeness_of(data)}
    position = {"epoch": iterator.epoch, "position": iterator.position}
    data = iterator.batches
    return {"kind": "batches", **position, "order": _order(data), "likeness": likeness_of(data)}


def check_same_data(position: dict[str, Any], data: Data, path: str, *, later_passes: bool = False) -> None:
    """Raises ValueError if what `position_of` returned, saved in the checkpoint `path`, is of other data.

    Other values of the same arrays, and another `transform`, are a warning; with `later_passes` over a
    dataset so is another seed of the process, which decides how these shuffle.
    """
    kind = "batches" if isinstance(data, Batches) else "dataset"
    if position["kind"] != kind:
        names = {"batches": "a `loops.Batches`", "dataset": "a `tf.data.Dataset`"}
        raise ValueError(
            f"`data` is {names[kind]}, and the checkpoint {path!r} was made with {names[position['kind']]}: "
            f"pass the same data. {_WAY_OUT}"
        )
    before, here = position.get("likeness", {}), likeness_of(data)  # an older version saved none
    wanted = {name: before.get(name) for name in _MUST_BE_THE_SAME} | position.get("order", {})
    if isinstance(data, Batches):
        here = here | _order(data)
    for name, value in wanted.items():
        if value is not None and here.get(name) not in (None, value):
            raise ValueError(
                f"`data` has {name}={here[name]}, and the checkpoint {path!r} was made with "
                f"{name}={value}: pass the same data. {_WAY_OUT}"
            )
    told = ["other values"] if before.get("values", here["values"]) != here["values"] else []
    seeds = here.get("process_seeds")
    if later_passes and before.get("process_seeds", seeds) != seeds:
        told.append("another seed of `keras.utils.set_random_seed` or `tf.random.set_seed`")
    was, now = before.get("transform", {}), here.get("transform", {})
    if any(now.get(name, value) != value for name, value in was.items()):
        told.append("another `transform`")
    if told:
        warnings.warn(
            f"`data` has {' and '.join(told)} than when the checkpoint {path!r} was made: training goes on "
            "with those of now.",
            stacklevel=2,
        )


_MUST_BE_THE_SAME = ("arrays", "batches", "batch_size", "seeds")
_WAY_OUT = (
    "To train on other data from the state of the checkpoint, `Checkpoint(folder).restore(step)` it and call "
    "`train` with another folder."
)


def _order(data: Batches) -> dict[str, int]:
    return {name: getattr(data, name) for name in ("examples", "batch_size", "shuffle", "seed")}


def write_iterator(path: str, iterator: tf.data.Iterator) -> str:
    """Saves the state of a dataset's iterator: its position, its shuffle buffers, what it has prefetched.

    Returns '' or, if TensorFlow cannot save it, the reason: the examples come from a Python function, say.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        tf.train.Checkpoint(iterator=iterator).write(path)
    except tf.errors.OpError as error:
        reason = iterator_not_saved(error)
        if reason is None:
            message = f"The position in the data cannot be written to {path!r}: {error.message}."
            raise OSError(message) from error
        return reason
    return ""


def iterator_after(
    data: tf.data.Dataset, name: str, passes: int, read: int, iterator_path: str | None, path: str
) -> tf.data.Iterator:
    """Returns an iterator of a dataset, the argument `name`, after `read` batches of pass number `passes`.

    By the file that `write_iterator` wrote or, without one, by reading so far again. First it begins the
    passes before, as the seeds of shuffles depend on how many there were.

    Raises:
        ValueError: the dataset is another one than that of the checkpoint `path`, or too short.
    """
    # To read an iterator's file, TensorFlow begins the dataset once more by itself.
    for _ in range(max(passes - (iterator_path is not None), 1)):
        iterator = iter(data)
    if iterator_path is not None:
        read_iterator(iterator_path, iterator)
    elif sum(1 for _ in itertools.islice(iterator, read)) < read:
        raise ValueError(
            f"`{name}` ends before the {read} batches that the run of the checkpoint {path!r} had read of "
            "it: pass the same data, or name another folder."
        )
    return iterator


def read_iterator(path: str, iterator: tf.data.Iterator) -> None:
    """Restores the state that `write_iterator` saved, in a new iterator of the same dataset.

    Raises:
        ValueError: the dataset is another one, or the file cannot be read.
    """
    try:
        with readable(path) as place:
            tf.train.Checkpoint(iterator=iterator).read(place).assert_consumed()
    except (tf.errors.OpError, AssertionError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise ValueError(
            f"`data` cannot resume where the checkpoint {path!r} was made: {reason}. Make the "
            f"dataset as it was. {_WAY_OUT}"
        ) from error
