"""Where reading the data stands, to be written down and found again."""

from __future__ import annotations

import re
from typing import Any

import tensorflow as tf

from .batches import Batches, BatchIterator


def position_of(iterator: Any) -> dict[str, Any]:
    """Where an iterator stands and, of a `Batches`, what decides the order: what JSON can hold.

    Args:
        iterator: a `BatchIterator`, or an iterator of a `tf.data.Dataset`, whose place only
            `write_iterator` tells.
    """
    if not isinstance(iterator, BatchIterator):
        return {"kind": "dataset"}
    return {
        "kind": "batches",
        "epoch": iterator.epoch,
        "position": iterator.position,
        "order": _order(iterator.batches),
    }


def check_same_data(place: dict[str, Any], data: Any, path: str) -> None:
    """Raises ValueError if `data` would not go on where a place was taken.

    Args:
        place: as `position_of` gave it.
        data: a `Batches` or a `tf.data.Dataset`.
        path: of the checkpoint that the place is from.
    """
    kind = "batches" if isinstance(data, Batches) else "dataset"
    if place["kind"] != kind:
        names = {"batches": "a `loops.Batches`", "dataset": "a `tf.data.Dataset`"}
        raise ValueError(
            f"`data` is {names[kind]}, and the checkpoint {path!r} was made with {names[place['kind']]}: "
            f"pass the same data. {_WAY_OUT}"
        )
    if isinstance(data, Batches):
        here = _order(data)
        for name, value in place["order"].items():
            if here[name] != value:
                raise ValueError(
                    f"`data` has {name}={here[name]}, and the checkpoint {path!r} was made with "
                    f"{name}={value}: pass the same data. {_WAY_OUT}"
                )


_WAY_OUT = (
    "To train on other data from the state of the checkpoint, `Checkpoint(folder).restore(step)` it and call "
    "`train` with another folder."
)


def _order(data: Batches) -> dict[str, Any]:
    return {
        "examples": data.examples,
        "batch_size": data.batch_size,
        "shuffle": data.shuffle,
        "seed": data.seed,
    }


def write_iterator(path: str, iterator: tf.data.Iterator) -> str:
    """Writes all that an iterator of a dataset holds: its place, and what it has shuffled or read ahead.

    Returns:
        '' or, if it cannot be written, TensorFlow's reason: a function of Python's gives the examples, or
        another operation with a state that TensorFlow cannot read.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        tf.train.Checkpoint(iterator=iterator).write(path)
    except tf.errors.OpError as error:
        message = str(error.message)
        # A file system has preconditions too.
        if isinstance(error, tf.errors.FailedPreconditionError) and "SerializeIterator" in message:
            # "PyFunc is stateful.", between the names of operations.
            return re.sub(r"\{\{.*?\}\} |\s*\[Op:.*", "", message, flags=re.DOTALL)
        raise OSError(f"The place in the data cannot be written to {path!r}: {message}.") from error
    return ""


def read_iterator(path: str, iterator: tf.data.Iterator) -> None:
    """Moves a new iterator to where `write_iterator` was called with one of the same dataset.

    Raises:
        ValueError: it is of another dataset, or the file cannot be read.
    """
    try:
        tf.train.Checkpoint(iterator=iterator).read(path).assert_consumed()
    except (tf.errors.OpError, AssertionError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise ValueError(
            f"`data` cannot be taken up where the checkpoint at {path!r} was made: {reason}. Make the "
            f"dataset as it was. {_WAY_OUT}"
        ) from error
