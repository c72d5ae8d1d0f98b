"""Events of an earlier session whose place a later one takes."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import tensorflow as tf

# A record is the length of its data, a checksum of that, the data, and a checksum of these.
_LENGTH = struct.Struct("<Q")
_BEFORE, _AFTER = 12, 4


def remove_superseded(folder: str, first: int) -> None:
    """Removes the events of the step `first` and later ones from a run's event files.

    TensorBoard would not show them; but `EventAccumulator`, by which programs read event files, does. What a
    process that was killed wrote of a record is removed, too.
    """
    if not tf.io.gfile.isdir(folder):
        return
    for name in tf.io.gfile.listdir(folder):
        if "tfevents" in name:
            path = os.path.join(folder, name)
            with tf.io.gfile.GFile(path, "rb") as file:
                data = file.read()
            kept = b"".join(
                record
                for record in _records(data)
                if tf.compat.v1.Event.FromString(record[_BEFORE:-_AFTER]).step < first
            )
            if len(kept) < len(data):
                new = os.path.join(folder, ".new")  # no name of an event file, should the process die now
                with tf.io.gfile.GFile(new, "wb") as file:
                    file.write(kept)
                tf.io.gfile.rename(new, path, overwrite=True)


def set_aside(folder: str) -> None:
    """Gives a run's event files names by which nothing takes them for such: `tfevents` becomes `earlier`."""
    for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else ():
        if "tfevents" in name:
            new = name.replace("tfevents", "earlier")
            tf.io.gfile.rename(os.path.join(folder, name), os.path.join(folder, new), overwrite=True)


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file, up to one that is not."""
    start = 0
    while start + _BEFORE <= len(data):
        end = start + _BEFORE + _LENGTH.unpack_from(data, start)[0] + _AFTER
        if end > len(data):
            return
        yield data[start:end]
        start = end
