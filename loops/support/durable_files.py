"""Files that are on the disk, whole, when a function returns: a power cut after it does not harm them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
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


def content_of(path: str, *, sync: bool = False) -> Content:
    """Reads a file, once; with `sync`, a local one is on the disk when this returns.

    Raises:
        OSError, tf.errors.OpError: it cannot be read or synced.
    """
    digest, size = hashlib.sha256(), 0
    with contextlib.ExitStack() as stack:
        if sync and is_local(path):
            descriptor = os.open(path, os.O_RDWR)
            stack.callback(os.close, descriptor)
            # The disk writes while the processor computes the digest.
            beside = stack.enter_context(ThreadPoolExecutor(1))
            synced = beside.submit(_sync, descriptor)
            stack.callback(lambda: synced.result())
        for block in _blocks(path):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


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
        file.flush()
        _sync(file.fileno())
    sync_folder(folder)
    os.replace(unfinished(path), path)
    sync_folder(folder)


def unfinished(path: str) -> str:
    """The name that a file of `write_last` has before it is whole."""
    return f"{path}.part"


def sync_folder(path: str) -> None:
    """Has a local disk know which files a folder holds."""
    if is_local(path) and os.name != "nt":  # which opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
