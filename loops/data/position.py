"""The position in the data: saved in a checkpoint, and restored from it."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import tensorflow as tf

from ...optim.common.readable import readable
from ..support.dataset_order import never_ends_if_restored
from ..support.drawn_seeds import drawn_seeds
from ..support.tensorflow_private import dataset_of, iterator_not_saved, restore_iterator
from .batches import Batches, BatchIterator, Data, DataIterator
from .fingerprint import fingerprint_of


def position_of(iterator: DataIterator) -> dict[str, Any]:
    """Returns as JSON the position of a `BatchIterator`, and the settings that determine its order.

    For an iterator of a `tf.data.Dataset` it says only that: TensorFlow saves its position in a file of its
    own, see `write_iterator`.
    """
    if not isinstance(iterator, BatchIterator):
        data = dataset_of(iterator)
        return {"kind": "dataset", "likeness": {} if data is None else fingerprint_of(data)}
    position = {"epoch": iterator.epoch, "position": iterator.position}
    data = iterator.batches
    return {"kind": "batches", **position, "order": _order(data), "likeness": fingerprint_of(data)}


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
    before, here = position.get("likeness", {}), fingerprint_of(data)  # an older version saved none
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


def write_iterator(path: str, iterator: tf.data.Iterator, position: dict[str, Any]) -> str:
    """Saves the state of a dataset's iterator: its position, its shuffle buffers, what it has prefetched.

    To the `position` it adds what the seeds were as it did.

    Returns '' or, if TensorFlow cannot save it, the reason: the examples come from a Python function, say.

    Raises:
        OSError: the file cannot be written.
    """
    data = dataset_of(iterator)
    if data is not None and never_ends_if_restored(data):
        return (
            "restored after one of those that it is sampled from has ended, it would never end; with "
            "`sample_from_datasets(..., stop_on_empty_dataset=True)` it would."
        )
    while True:
        position |= seeds_in(data)
        try:
            tf.train.Checkpoint(iterator=iterator).write(path)
        except tf.errors.OpError as error:
            reason = iterator_not_saved(error)
            if reason is None:
                message = f"The position in the data cannot be written to {path!r}: {error.message}."
                raise OSError(message) from error
            return reason
        # It may be reading ahead, and have begun to shuffle once more.
        if position == position | seeds_in(data):
            return ""


def seeds_in(data: Data | None) -> dict[str, Any]:
    """What a position says of the seeds that a dataset has drawn; nothing if that is not known.

    The first call should be before the dataset is read: it draws seeds, and sets them back.
    """
    seeds = drawn_seeds(data) if isinstance(data, tf.data.Dataset) else None
    return {} if seeds is None else {"seeds": seeds.get()}


def set_seeds(data: Data | None, position: dict[str, Any], name: str = "seeds") -> bool:
    """Has a dataset go on with the seeds of a position; False if it has none of such a dataset."""
    seeds = drawn_seeds(data) if isinstance(data, tf.data.Dataset) else None
    drawn = position.get(name)
    if seeds is None or drawn is None or len(drawn) != len(seeds.get()):
        return False
    seeds.set(drawn)
    return True


def iterator_at(
    data: tf.data.Dataset,
    name: str,
    position: dict[str, Any],
    in_a_pass: bool,
    iterator_path: str | None,
    path: str,
) -> tf.data.Iterator | None:
    """Returns an iterator of a dataset, the argument `name`, where a position says.

    By the file that `write_iterator` wrote or, without one, by reading so far again. None if no pass was
    going on: the next one will be in the order that it would have been in.

    Raises:
        ValueError: the dataset is another one than that of the checkpoint `path`, or too short.
    """
    passes, read = position.get("passes", 0), position.get("read", 0)
    in_a_pass = in_a_pass and (passes > 0 or iterator_path is not None)
    iterator_path = iterator_path if in_a_pass else None
    again = in_a_pass and iterator_path is None
    if not set_seeds(data, position, "seeds_before" if again else "seeds"):
        # An older version saved none, of which most shuffles draw as a pass begins. To restore an iterator,
        # TensorFlow begins one more.
        for _ in range(passes - in_a_pass - (iterator_path is not None)):
            iter(data)
    if not in_a_pass:
        return None
    iterator = iter(data)
    if iterator_path is not None:
        read_iterator(iterator_path, iterator)
        set_seeds(data, position)  # to begin and restore it has drawn some
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
            restore_iterator(place, iterator)
    except tf.errors.OpError as error:
        raise ValueError(
            f"`data` cannot resume where the checkpoint {path!r} was made: {error.message}. Make the "
            f"dataset as it was. {_WAY_OUT}"
        ) from error
