"""Checkpoints that a thread writes while training goes on: at most one in a folder."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import tensorflow as tf
from tqdm import tqdm

from ..support.beside import beside
from .directory import CheckpointFolder
from .errors import not_written
from .folder_in_use import hold
from .notes import Note
from .retention import Policy
from .whole import write_checkpoint

# By process, as one that this one forks inherits this, and not the thread; and by path.
_in_flight: dict[tuple[int, str], Future[None]] = {}
# Held from `finish` to `start`, so that of several threads that save one begins at a time.
turn = threading.RLock()


class _Holder:
    """Holds a folder as long as it lives."""


def start(
    folder: CheckpointFolder,
    path: str,
    values: dict[str, tf.Tensor],
    note: Note,
    policies: Sequence[Policy],
    *,
    tells: bool,
) -> None:
    """Has a thread write a checkpoint and remove old ones; `finish` has waited for the one before.

    Meanwhile the folder is held, whatever becomes of who asked for it.

    Args:
        folder: where it is.
        path, values, note: as `write_checkpoint` takes them; the caller holds the values no more, or memory
            stays taken that the thread is done with.
        policies: which to keep.
        tells: whether an error is printed at once, since the call that raises it may be far.
    """
    holder: _Holder | None = _Holder()
    hold(folder.path, holder)

    def write() -> None:
        nonlocal holder
        try:
            before = folder.newest()
            try:
                with folder.removed_on_error(path):
                    write_checkpoint(path, values, note)
            except Exception as error:  # of whatever kind, as the call that raises it may never come
                told = not_written(error, None if before is None else folder.checkpoint(before))
                if tells:
                    tqdm.write(f"{told}", file=sys.stderr)
                raise told from error
            folder.remove_all_but(policies)
        finally:
            # Before whoever waits goes on, and may lock the folder anew.
            holder = None

    _in_flight[_key(folder)] = beside(write)


def finish(folder: CheckpointFolder) -> None:
    """Waits until what `start` began in a folder is done; raises what it raised, once."""
    key = _key(folder)
    found = _in_flight.get(key)
    if found is not None:
        try:
            found.result()
        finally:
            if found.done():  # not where `Ctrl-C` ends the wait
                _in_flight.pop(key, None)


def settle(folder: CheckpointFolder) -> None:
    """Waits as `finish` does, and leaves the error to that."""
    found = _in_flight.get(_key(folder))
    if found is not None:
        found.exception()


def _key(folder: CheckpointFolder) -> tuple[int, str]:
    return os.getpid(), os.path.realpath(folder.path)
