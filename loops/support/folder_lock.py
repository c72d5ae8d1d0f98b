"""One writer at a time in a folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import weakref
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]  # there is none on Windows


class FolderLock:
    """Holds a folder until `release`, or as long as this object, and the process, live.

    The operating system keeps the lock, so none is left when its process dies; a file in the folder tells who
    has it. Where there are no locks (`gs://` and its like, Windows, some network file systems) it does
    nothing.

    Args:
        folder: must exist.
        name: of the caller's argument for it, for errors.
        kind: of the caller; those of different kinds may hold a folder together.

    Raises:
        ValueError: another holds it.
        OSError: the file cannot be written.
    """

    def __init__(self, folder: str, name: str = "log_dir", kind: str = "TensorBoard") -> None:
        self._file: IO[str] | None = None
        self._path = os.path.join(folder, f".gradloop-{kind.lower()}-lock")
        self._process = os.getpid()
        while fcntl is not None and "://" not in folder and self._file is None:
            file = open(self._path, "a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = _owner(file.read())
                file.close()
                if not _is_dead(owner):
                    raise _locked_error(folder, name, kind, owner) from None
                # A process that it started holds it still.
                with contextlib.suppress(FileNotFoundError):
                    os.remove(self._path)
                continue
            except OSError:  # a file system without locks
                file.close()
                return
            if _is_at(file, self._path):
                self._file = file
            else:  # another removed it meanwhile
                file.close()
        if self._file is not None:
            self._file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            json.dump({"host": socket.gethostname(), "process": self._process, "since": since}, self._file)
            self._file.flush()
            # When this object is deleted, and when the process ends.
            weakref.finalize(self, _unlock, self._file, self._path, self._process)

    @property
    def is_held(self) -> bool:
        """Whether it holds the folder: not after `release`, nor where there are no locks."""
        return self._file is not None

    def release(self) -> None:
        """Lets go of the folder; the second time it does nothing."""
        file, self._file = self._file, None
        if file is not None:
            _unlock(file, self._path, self._process)


def _unlock(file: IO[str], path: str, process: int) -> None:
    if not file.closed:
        if process == os.getpid():  # not a copy of it
            with contextlib.suppress(OSError):
                os.remove(path)
        file.close()


def _owner(text: str) -> dict[str, str | int]:
    try:
        told = dict(json.loads(text))
        return {"host": str(told["host"]), "process": int(told["process"]), "since": str(told["since"])}
    except (TypeError, ValueError, KeyError):  # it has not been written yet, or by somebody else
        return {}


def _is_dead(owner: dict[str, str | int]) -> bool:
    if owner.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(owner["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's; or no process
        pass
    return False


def _is_at(file: IO[str], path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _locked_error(folder: str, name: str, kind: str, owner: dict[str, str | int]) -> ValueError:
    who, way_out = "another process", "wait until it ends"
    if owner:
        who = f"process {owner['process']} on {owner['host']} since {owner['since']}"
        if (owner["process"], owner["host"]) == (os.getpid(), socket.gethostname()):
            who = f"another `{kind}` of this process since {owner['since']}"
            way_out = "`close` that" if kind == "TensorBoard" else "end that first"
    return ValueError(f"`{name}` {folder!r} is being written by {who}: choose another folder, or {way_out}.")
