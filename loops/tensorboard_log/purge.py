"""Removes events of earlier sessions that a resumed run writes again, and renames files of earlier runs."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import tensorflow as tf

# A record is the length of its data, a checksum of the length, the data, and a checksum of the data.
_LENGTH = struct.Struct("<Q")
_BEFORE, _AFTER = 12, 4


def purge_events(folder: str, first_step: int) -> None:
    """Removes events of `first_step` and later steps from a run's event files.

    TensorBoard would not show them, but `EventAccumulator`, with which programs read event files, does. A
    truncated record, which a killed process leaves, is removed, too.
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
                if tf.compat.v1.Event.FromString(record[_BEFORE:-_AFTER]).step < first_step
            )
            if len(kept) < len(data):
                new = os.path.join(folder, ".new")  # not an event file's name, in case the process is killed
                with tf.io.gfile.GFile(new, "wb") as file:
                    file.write(kept)
                tf.io.gfile.rename(new, path, overwrite=True)


def rename_event_files(folder: str) -> None:
    """Renames a run's event files so that TensorBoard ignores them: `tfevents` becomes `earlier`."""
    for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else ():
        if "tfevents" in name:
            new = name.replace("tfevents", "earlier")
            tf.io.gfile.rename(os.path.join(folder, name), os.path.join(folder, new), overwrite=True)


def _records(data: bytes) -> Iterator[bytes]:
    """The complete records of a file, up to the first truncated one."""
    start = 0
    while start + _BEFORE <= len(data):
        end = start + _BEFORE + _LENGTH.unpack_from(data, start)[0] + _AFTER
        if end > len(data):
            return
        yield data[start:end]
        start = end
