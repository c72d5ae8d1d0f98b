"""Files that are complete on the disk when a function returns, so that a power cut does not damage them."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import Future
from typing import BinaryIO, TypedDict

import tensorflow as tf

from .background import in_background

_BLOCK = 1 << 18


class Content(TypedDict):
    """What is in a file."""

    bytes: int
    sha256: str


def is_local(path: str) -> bool:
    """Whether Python can open a path; if not (`gs://...`), TensorFlow can."""
    return "://" not in path


def content_of(path: str) -> Content:
    """Reads a file, once; raises OSError or tf.errors.OpError if it cannot."""
    with _opened(path) as file:
        return _content(file)


def sync_and_hash(path: str) -> Content:
    """Syncs a file to the disk, if it is local, and reads its size and SHA-256.

    Raises OSError or tf.errors.OpError if it cannot be read or synced.
    """
    return _synced_and_hashed(_opened(path), is_local(path))


def start_sync_and_hash(path: str) -> Future[Content]:
    """Runs `sync_and_hash` in a background thread. The file may be renamed meanwhile."""
    return in_background(_synced_and_hashed, _opened(path), is_local(path))


def _synced_and_hashed(file: BinaryIO, local: bool) -> Content:
    with file:
        if local:
            _sync(file.fileno())
        return _content(file)


def _opened(path: str) -> BinaryIO:
    if is_local(path):
        return open(path, "rb", buffering=0)
    remote: BinaryIO = tf.io.gfile.GFile(path, "rb")  # which has what is used here
    return remote


def _content(file: BinaryIO) -> Content:
    digest, size = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def write_atomically(path: str, text: str) -> None:
    """Writes a text file that is there as a whole or not at all, and after all other files of its folder.

    Until it is on the disk, it is called `temporary_name(path)`.

    Raises:
        OSError, tf.errors.OpError: it cannot be written.
    """
    if not is_local(path):
        with tf.io.gfile.GFile(temporary_name(path), "w") as remote:
            remote.write(text)
        tf.io.gfile.rename(temporary_name(path), path, overwrite=True)
        return
    folder = os.path.dirname(path)
    with open(temporary_name(path), "w") as file:
        file.write(text)
    sync(temporary_name(path))
    sync(folder)
    os.replace(temporary_name(path), path)
    sync(folder)


def temporary_name(path: str) -> str:
    """The name of a file of `write_atomically` before it is complete."""
    return f"{path}.part"


def sync(path: str) -> None:
    """Syncs a local file, or the names in a local folder, to the disk."""
    if not is_local(path) or os.name == "nt":  # which opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if os.name == "nt":  # which syncs nothing that was opened to be read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
