"""Files that are on the disk, whole, when a function returns: a power cut after it does not harm them."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

import tensorflow as tf

_BLOCK = 1 << 20


class Content(TypedDict):
    """What is in a file."""

    bytes: int
    sha256: str


def is_local(path: str) -> bool:
    """Whether Python can open a path; if not (`gs://...`), TensorFlow can."""
    return "://" not in path


def content_of(path: str) -> Content:
    """Reads a file, once; raises OSError or tf.errors.OpError if it cannot."""
    digest, size = hashlib.sha256(), 0
    for block in _blocks(path):
        digest.update(block)
        size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def sync_all(paths: Iterable[str]) -> dict[str, Content]:
    """Reads files, which are on the disk when this returns, if it is a local one: path -> what is in it.

    Raises:
        OSError, tf.errors.OpError: one cannot be read or synced.
    """
    paths = list(paths)
    with ThreadPoolExecutor() as disk:  # which writes them while the processor computes the digests
        synced = [disk.submit(sync, path) for path in paths]
        contents = {path: content_of(path) for path in paths}
        for each in synced:
            each.result()
    return contents


def _blocks(path: str) -> Iterator[bytes | memoryview]:
    if not is_local(path):
        with tf.io.gfile.GFile(path, "rb") as remote:
            while block := remote.read(_BLOCK):
                yield block
        return
    buffer = memoryview(bytearray(_BLOCK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]


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
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
    finally:
        os.close(descriptor)
