"""The folder of checkpoints, numbered, and the paths in each."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Sequence

import tensorflow as tf

from .errors import reason_of
from .manifest import check_sizes, has_manifest, is_unfinished, mark_unfinished, remove_manifest, written_at
from .paths import state_in
from .retention import Entry, Policy
from .summaries import summary_of
from .tensor_file import is_written, read_metadata

_NAME = re.compile(r"checkpoint-(0|[1-9][0-9]*)/?")  # cloud storage lists folders with a slash
_OWN = re.compile(r"(state|iterator)(\..*|_temp/?)|manifest\.json(\.part)?")  # files that are written here

_damaged: set[str] = set()  # of those that this process has read


class CheckpointFolder:
    """Folders `checkpoint-1`, `checkpoint-2`, ... in the folder `path`, which need not be there.

    One is complete once its manifest is there, which is written last and removed first; one of format 1 once
    its file `state.index` is.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def newest(self) -> int | None:
        """The number of the newest complete one; None if there is none."""
        complete = self.complete()
        return complete[-1] if complete else None

    def complete(self) -> list[int]:
        """The numbers of all complete ones, the newest last."""
        return [number for number in self.numbers() if _is_complete(self.checkpoint(number))]

    def mark(self, number: int, damaged: bool) -> None:
        """Remembers, for `remove_all_but`, whether a complete one was found to be damaged."""
        (_damaged.add if damaged else _damaged.discard)(self.checkpoint(number))

    def clear_unfinished(self) -> None:
        """Removes unfinished ones, of processes that died; call it only with the folder locked."""
        with contextlib.suppress(tf.errors.OpError):  # the next one tries again
            for number in set(self.numbers()) - set(self.complete()):
                self._clear(number)

    def make_next(self) -> str:
        """Makes the folder for the next one, above all numbers that are taken, and returns its path."""
        try:
            numbers = self.numbers()
            path = self.checkpoint(numbers[-1] + 1 if numbers else 1)
            tf.io.gfile.mkdir(path)  # alone: a folder that was removed meanwhile is not made again in silence
            _damaged.discard(path)  # which another one of this number was, until somebody deleted it
            with self.removed_on_error(path):
                mark_unfinished(path)
        except tf.errors.OpError as error:
            raise OSError(f"No checkpoint can be written in {self.path!r}: {reason_of(error)}.") from error
        return path

    def entries(self) -> list[Entry]:
        """What is known of each complete one, the newest last."""
        return [self._entry(number) for number in self.complete()]

    def looks_whole(self, number: int) -> bool:
        """Whether a complete one is not known to be damaged, and its files have their sizes."""
        path = self.checkpoint(number)
        try:
            check_sizes(path, summary_of(path))
        except (ValueError, OSError, tf.errors.OpError):  # also where another process removes it just now
            return False
        return path not in _damaged

    def _entry(self, number: int) -> Entry:
        try:
            return _entry_of(self.checkpoint(number), number, written_at(self.checkpoint(number)))
        except (ValueError, OSError, tf.errors.OpError):  # whoever loads it is told
            return Entry(number, None, {}, {})

    def remove_all_but(self, policies: Sequence[Policy]) -> None:
        """Removes what no policy keeps, except the newest; and unfinished ones that are older than that.

        One that is known to be damaged never takes the place of a whole one.
        """
        with contextlib.suppress(tf.errors.OpError):  # as in `_remove`
            found = self.entries()
            complete = [entry.number for entry in found]
            for number in self.numbers():
                if number not in complete and number < complete[-1]:
                    self._clear(number)
            whole = [entry for entry in found if self.checkpoint(entry.number) not in _damaged]
            kept = {number for policy in policies for some in (found, whole) for number in policy.keeps(some)}
            for number in complete[:-1]:
                if number not in kept:
                    self._remove(number)

    @contextlib.contextmanager
    def removed_on_error(self, path: str) -> Iterator[None]:
        """Removes a checkpoint's folder if the body, which writes it, fails."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(tf.errors.OpError):  # the body's error is the one to raise
                tf.io.gfile.rmtree(path)
            raise

    def checkpoint(self, number: int) -> str:
        """The folder of a checkpoint."""
        return os.path.join(self.path, f"checkpoint-{number}")

    def _clear(self, number: int) -> None:
        """Removes an unfinished one, unless it holds files that are not of a checkpoint."""
        path = self.checkpoint(number)
        if tf.io.gfile.isdir(path) and all(map(_OWN.fullmatch, tf.io.gfile.listdir(path))):
            self._remove(number)

    def _remove(self, number: int) -> None:
        path = self.checkpoint(number)
        # The next call tries again. Training need not end for it, and others can be removed.
        with contextlib.suppress(tf.errors.OpError):
            remove_manifest(path)
            index = f"{state_in(path)}.index"
            if tf.io.gfile.exists(index):
                tf.io.gfile.remove(index)
            tf.io.gfile.rmtree(path)

    def numbers(self) -> list[int]:
        """The numbers of all, of unfinished ones too, the newest last."""
        if not tf.io.gfile.isdir(self.path):
            return []
        found = [match for match in map(_NAME.fullmatch, tf.io.gfile.listdir(self.path)) if match]
        return sorted(int(match.group(1)) for match in found)


@functools.lru_cache(maxsize=1000)  # as each save asks for all that are kept
def _entry_of(checkpoint: str, number: int, written: int) -> Entry:
    found = summary_of(checkpoint)
    return Entry(number, found["step"], found["metrics"], found["modes"])


def _is_complete(checkpoint: str) -> bool:
    if has_manifest(checkpoint):
        return True
    state = state_in(checkpoint)
    # One that cannot be read is of format 1 and damaged: those of format 2 are marked until they are sealed.
    return (
        is_written(state)
        and not is_unfinished(checkpoint)
        and (read_metadata(state) or {}).get("format", 1) == 1
    )
