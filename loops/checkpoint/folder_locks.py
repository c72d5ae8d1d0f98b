"""The folders that this process has locked, so that no other process writes checkpoints to them."""

from __future__ import annotations

import os
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import tensorflow as tf

from ..support.folder_lock import FolderLock
from .errors import reason_of

# By process, since a forked process inherits all this; and by path.
_locks: WeakValueDictionary[tuple[int, str], FolderLock] = WeakValueDictionary()
_owners: WeakKeyDictionary[object, FolderLock] = WeakKeyDictionary()
_of_runs: WeakSet[FolderLock] = WeakSet()


def lock_folder(folder: str, owner: object, *, run: bool = False) -> bool:
    """Makes a folder and locks it until `unlock_folder(owner)`, or until the owner is deleted.

    Args:
        folder: path.
        owner: any object; several of one process may share a lock.
        run: whether the owner is a run of `train`, of which there is one at a time, also within a process.

    Returns:
        Whether this call locked it: False if this process had, or if the file system has no locks.

    Raises:
        ValueError: a living process has locked it, or another run of this one.
        OSError: it cannot be written.
    """
    key = os.getpid(), os.path.realpath(folder)
    lock = _locks.get(key)
    new = lock is None or run and lock in _of_runs
    if lock is None or new:
        try:
            tf.io.gfile.makedirs(folder)
            lock = FolderLock(folder, "folder", "Checkpoint")
        except (OSError, tf.errors.OpError) as error:
            raise OSError(f"No checkpoint can be written in {folder!r}: {reason_of(error)}.") from error
        _locks[key] = lock
    if run:
        _of_runs.add(lock)
    _owners[owner] = lock
    return new and lock.is_held


def unlock_folder(owner: object) -> None:
    """Unlocks the folder that an owner locked, if no other owner has it."""
    lock = _owners.pop(owner, None)
    if lock is not None:
        _of_runs.discard(lock)
        if all(other is not lock for other in _owners.values()):
            # At once: the traceback of an error may hold the object.
            lock.release()
            for key in [key for key, other in _locks.items() if other is lock]:
                del _locks[key]
