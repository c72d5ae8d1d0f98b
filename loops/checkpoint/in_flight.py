"""Checkpoints that a background thread writes while training continues: at most one in a folder."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import tensorflow as tf
from tqdm import tqdm

from ..support.background import in_background
from .directory import CheckpointFolder
from .errors import not_written
from .folder_locks import lock_folder
from .metadata import Metadata
from .retention import Policy
from .whole import write_checkpoint

# By process, since a forked process inherits this and not the thread; and by path.
_in_flight: dict[tuple[int, str], Future[None]] = {}
# Held from `wait_for` to `start`, so that of several threads that save one begins at a time.
turn = threading.RLock()


class _LockOwner:
    """Keeps a folder locked as long as it exists."""


def start(
    folder: CheckpointFolder,
    path: str,
    values: dict[str, tf.Tensor],
    metadata: Metadata,
    policies: Sequence[Policy],
    *,
    print_errors: bool,
) -> None:
    """Starts a thread that writes a checkpoint and then removes old ones; call `wait_for` before.

    The folder stays locked until the thread is done, also if the caller unlocks it.

    Args:
        folder: where it is.
        path, values, metadata: as for `write_checkpoint`. The caller keeps no reference to the values, so
            that their memory is freed as they are written.
        policies: which to keep.
        print_errors: whether an error is printed at once, since the call that raises it may come much later.
    """
    owner: _LockOwner | None = _LockOwner()
    lock_folder(folder.path, owner)

    def write() -> None:
        nonlocal owner
        try:
            before = folder.newest()
            try:
                with folder.removed_on_error(path):
                    write_checkpoint(path, values, metadata)
            except Exception as error:  # of any kind, since the call that raises it may never come
                told = not_written(error, None if before is None else folder.checkpoint(before))
                if print_errors:
                    tqdm.write(f"{told}", file=sys.stderr)
                raise told from error
            folder.remove_all_but(policies)
        finally:
            # Before the caller of `wait_for` continues, which may lock the folder again.
            owner = None

    _in_flight[_key(folder)] = in_background(write)


def wait_for(folder: CheckpointFolder) -> None:
    """Waits until the save in a folder is complete; raises its error, once."""
    key = _key(folder)
    found = _in_flight.get(key)
    if found is not None:
        try:
            found.result()
        finally:
            if found.done():  # not where `Ctrl-C` ends the wait
                _in_flight.pop(key, None)


def wait_quietly(folder: CheckpointFolder) -> None:
    """Waits like `wait_for`, which still raises the error."""
    found = _in_flight.get(_key(folder))
    if found is not None:
        found.exception()


def _key(folder: CheckpointFolder) -> tuple[int, str]:
    return os.getpid(), os.path.realpath(folder.path)
