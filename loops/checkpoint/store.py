"""Writing a checkpoint and reading it again, on one process or on several workers."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import cast

import tensorflow as tf

from ...optim.common.types import Array
from ..data.batches import BatchIterator
from ..data.position import write_iterator
from ..distribute.cluster import is_chief
from ..distribute.same_error import any_worker_failed, raise_on_all
from ..distribute.same_order import Mean, same_on_all_workers
from ..support.errors import call_each
from ..support.folders import check_log_dir
from . import in_flight
from .directory import CheckpointFolder
from .errors import DamagedError
from .folder_locks import lock_folder, unlock_folder
from .manifest import steps_in
from .metadata import Metadata
from .paths import iterator_in
from .retention import Entry, Keep, best_of, check_policies, policies_of
from .saved_step import Saved
from .tensor_file import TensorFile, as_json, in_memory
from .whole import read_whole


class CheckpointStore:
    """Writes and reads the checkpoints in a folder.

        store.save(saved, metadata)  # the chief writes, the other workers wait for it
        file = store.load(saved)     # the newest, read as a whole and checked; changes nothing
        assign(saved, file)

    The folder need not exist.

    Args:
        folder: path.
        keep: which to keep, see `policies_of`.
        on_damaged: "previous" to pass over damaged checkpoints, "raise" to raise their error.
        owner: locks the folder from the first `save` on, see `folder_locks`; None where `locked` does.
    """

    def __init__(self, folder: str, keep: Keep, on_damaged: str, owner: object | None = None) -> None:
        self._folder = CheckpointFolder(folder)
        self._policies = policies_of(keep)
        self._on_damaged = on_damaged
        self._lock_owner = owner

    @contextlib.contextmanager
    def locked(self, mean: Mean) -> Iterator[None]:
        """Makes the folder and locks it during the body; `mean` is that over the workers.

        At the end of the body it waits for a save in the background.

        Raises:
            ValueError: it cannot be written, or another run or process writes to it.
            OSError: the save in the background failed. If the body raised, this is a note of its error.
        """
        error = None
        if is_chief():
            try:
                check_log_dir(self._folder.path, "folder")
                self._wait_for_save()
                self._lock(self, run=True)
            except (OSError, ValueError) as caught:
                error = caught
        raise_on_all(error, mean, self._for_others)
        try:
            try:
                yield
            except BaseException as caught:
                call_each([self._wait_for_save], caught)
                raise
            self._wait_for_save()
        finally:
            unlock_folder(self)

    def _wait_for_save(self) -> None:
        in_flight.wait_for(self._folder)

    def wait(self, mean: Mean) -> None:
        """Waits for a save in the background; OSError if it failed. All workers must call this."""
        error = None
        try:
            self._wait_for_save()
        except OSError as caught:
            error = caught
        raise_on_all(error, mean, self._for_others)

    def _lock(self, owner: object, *, run: bool = False) -> None:
        if lock_folder(self._folder.path, owner, run=run):
            self._folder.clear_unfinished()

    @property
    def _for_others(self) -> str:
        return f"The worker that writes checkpoints to {self._folder.path!r} could not."

    @property
    def newest(self) -> str | None:
        """The folder of the newest checkpoint that looks whole; None if there is none."""
        in_flight.wait_quietly(self._folder)
        whole = filter(self._folder.looks_whole, reversed(self._folder.complete()))
        number = next(whole, None)
        return None if number is None else self._folder.checkpoint(number)

    def load(self, saved: Saved, meanwhile: Callable[[], object] = lambda: None) -> TensorFile | None:
        """Reads the newest whole checkpoint and checks that `saved` can take it; None if there is none.

        Args:
            saved: what is to take it.
            meanwhile: called once, while threads read, if there is one to read.

        Raises:
            OSError: one that a thread was writing cannot be written.
            ValueError: it is of something else; it is damaged, and `on_damaged` is "raise", or all are; or
                workers see different folders.
        """
        mean, damaged = saved.mean_over_workers, list[str]()
        once = functools.cache(meanwhile)  # in which workers may wait for each other, so all call it
        self.wait(mean)
        for number in [*reversed(self._folder.complete()), None]:
            if not same_on_all_workers(number or 0, mean):
                raise ValueError(
                    f"`folder` {self._folder.path!r} does not hold the same checkpoints for each worker: "
                    "name one on a file system that all of them share."
                )
            if number is None:
                break
            path, file, error = self._folder.checkpoint(number), None, None
            try:
                file = read_whole(path, meanwhile=once)
            except DamagedError as caught:
                error = caught
            once()
            if any_worker_failed(error, mean):
                file = None
                error = error or DamagedError(path, "another worker cannot read it")
                if self._on_damaged == "raise":
                    raise error
                damaged.append(f"{os.path.basename(path)}: {error.reason}")
            self._folder.mark(number, damaged=file is None)
            if file is not None:
                if damaged and is_chief():
                    warnings.warn(
                        f"`folder` {self._folder.path!r} has damaged checkpoints ({'; '.join(damaged)}): the "
                        f"newest that is whole is {path!r}. They go as soon as `keep` newer ones are there.",
                        stacklevel=2,
                    )
                saved.check(file)
                return file
        if damaged:
            raise ValueError(
                f"`folder` {self._folder.path!r} has no checkpoint that is whole ({'; '.join(damaged)}): "
                "put a copy in its place, or name another folder to begin anew."
            )
        return None

    def save(
        self,
        saved: Saved,
        metadata: Metadata,
        arrays: Mapping[str, Array] | None = None,
        iterator: BatchIterator | tf.data.Iterator | None = None,
        *,
        needs_iterator: bool = False,
        background: bool = False,
    ) -> str | None:
        """Writes a checkpoint and removes old ones; returns its folder, or None for a worker that only waits.

        A thread writes the values. Before it starts, all that the next step could change is captured: the
        values, the metadata, and the state of the iterator.

        Args:
            saved: whose values and metadata to save.
            metadata: more, beside its own.
            arrays: more to save, by names that begin with `tensor_file.OWN`.
            iterator: a dataset's is saved with all that it has shuffled and read ahead.
            needs_iterator: whether one that TensorFlow cannot save is a ValueError; else it is left out.
            background: return while the thread writes. The next `save`, `load` or `wait` in the folder waits
                for it, and raises its error.

        Raises:
            OSError: it cannot be written, or the one before could not; those from before are as they were.
            TypeError: JSON cannot hold the metadata.
        """
        own, values = saved.capture()
        values |= in_memory(arrays) if arrays else {}
        path, error = None, None
        if is_chief():
            try:
                with in_flight.turn:  # a copy of the metadata, as the run goes on
                    metadata = cast(Metadata, json.loads(as_json({**own, **metadata})))
                    path = self._start_save(values, metadata, iterator, needs_iterator, background)
                    if not background:
                        self._wait_for_save()
            except (OSError, TypeError, ValueError) as caught:
                error = caught
        # The other workers wait here: the checkpoint is there when they look for it, or they fail as well.
        raise_on_all(error, saved.mean_over_workers, self._for_others)
        return path

    def _start_save(
        self,
        values: dict[str, tf.Tensor],
        metadata: Metadata,
        iterator: BatchIterator | tf.data.Iterator | None,
        needs_iterator: bool,
        print_errors: bool,
    ) -> str:
        """Starts the thread that writes a checkpoint, and returns its folder."""
        self._wait_for_save()
        if self._lock_owner is not None:
            self._lock(self._lock_owner)
        if "run" not in metadata:  # `train` has checked its own
            about = Entry(0, steps_in(values), metadata.get("metrics", {}), metadata.get("modes", {}))
            entries = [*self._folder.entries(), about]
            check_policies(self._policies, entries, may_come="metrics" not in metadata)
        path = self._folder.make_next()
        with self._folder.removed_on_error(path):
            if isinstance(iterator, tf.data.Iterator):
                reason = write_iterator(iterator_in(path), iterator, metadata["data"] or {})
                if reason and needs_iterator:
                    raise ValueError(
                        f"`iterator` is of a dataset in which TensorFlow knows no place: {reason} "
                        "Save without it, or read the data by a `loops.Batches`."
                    )
            in_flight.start(self._folder, path, values, metadata, self._policies, print_errors=print_errors)
        return path

    @property
    def best(self) -> str | None:
        """The folder of the best checkpoint by the first `Best`; None if there is none."""
        in_flight.wait_quietly(self._folder)
        whole = [entry for entry in self._folder.entries() if self._folder.looks_whole(entry.number)]
        number = best_of(self._policies, whole)
        return None if number is None else self._folder.checkpoint(number)


def assign(saved: Saved, file: TensorFile) -> None:
    """Restores what a loaded checkpoint holds."""
    saved.restore(file.metadata, file.values)
