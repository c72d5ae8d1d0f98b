"""Files that are on the disk, whole, when a function returns: a power cut after it does not harm them."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import Future
from typing import BinaryIO, TypedDict

import tensorflow as tf

from .beside import beside

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


def settled(path: str) -> Content:
    """Has a file that was written reach the disk, if it is a local one, and reads it.

    Raises OSError or tf.errors.OpError if it cannot be read or synced.
    """
    return _settled(_opened(path), is_local(path))


def settle(path: str) -> Future[Content]:
    """`settled`, in a thread. The file may get another name meanwhile."""
    return beside(_settled, _opened(path), is_local(path))


def _settled(file: BinaryIO, local: bool) -> Content:
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


def write_last(path: str, text: str) -> None:
    """Writes a text file that is there as a whole or not at all, after all that its folder holds already.

    It has another name, which `unfinished` tells, until it is on the disk.

    Raises:
        OSError, tf.errors.OpError: it cannot be written.
    """
    if not is_local(path):
        with tf.io.gfile.GFile(unfinished(path), "w") as remote:
            remote.write(text)
        tf.io.gfile.rename(unfinished(path), path, overwrite=True)
        return
    folder = os.path.dirname(path)
    with open(unfinished(path), "w") as file:
        file.write(text)
    sync(unfinished(path))
    sync(folder)
    os.replace(unfinished(path), path)
    sync(folder)


def unfinished(path: str) -> str:
    """The name that a file of `write_last` has before it is whole."""
    return f"{path}.part"


def sync(path: str) -> None:
    """Has what was written to a local file, or the names in a folder, reach the disk."""
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
