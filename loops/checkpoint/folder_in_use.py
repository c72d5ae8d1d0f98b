"""The folders that this process writes checkpoints to; meanwhile no other process does."""

from __future__ import annotations

import os
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import tensorflow as tf

from ..support.folder_lock import FolderLock
from .errors import reason_of

# By process, as one that this one forks inherits all this, and by path.
_locks: WeakValueDictionary[tuple[int, str], FolderLock] = WeakValueDictionary()
_holders: WeakKeyDictionary[object, FolderLock] = WeakKeyDictionary()
_of_runs: WeakSet[FolderLock] = WeakSet()


def hold(folder: str, holder: object, *, run: bool = False) -> bool:
    """Makes a folder and holds it until `let_go(holder)`, or as long as that object lives.

    Args:
        folder: path.
        holder: several of one process may hold a folder together.
        run: whether it is a run of `train`, of which there is one at a time also in a process.

    Returns:
        Whether nobody held it before, and there is a lock against other processes.

    Raises:
        ValueError: a process that lives holds it, or a run of this one.
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
    _holders[holder] = lock
    return new and lock.is_held


def let_go(holder: object) -> None:
    """Ends what `hold` began for this holder."""
    lock = _holders.pop(holder, None)
    if lock is not None:
        _of_runs.discard(lock)
        if all(other is not lock for other in _holders.values()):
            # At once: the traceback of an error may hold the object.
            lock.release()
            for key in [key for key, other in _locks.items() if other is lock]:
                del _locks[key]
