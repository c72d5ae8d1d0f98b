"""Writing a checkpoint and reading it again, on one process or on several workers."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from ...optim.common.types import Array
from ..data.batches import BatchIterator
from ..data.position import write_iterator
from ..distribute.cluster import is_chief
from ..distribute.same_order import Mean, same_on_all
from ..support.folders import check_log_dir
from .directory import CheckpointFolder, iterator_in
from .notes import Note
from .saved_step import Saved
from .tensor_file import TensorFile
from .whole import read_whole, write_checkpoint


class CheckpointStore:
    """The checkpoints in a folder.

        store.save(saved, note)      # the chief writes, the other workers wait for it
        file = store.load(saved)     # the newest, read as a whole and checked; changes nothing
        assign(saved, file)

    The folder need not exist; `keep` is how many of the newest to keep.
    """

    def __init__(self, folder: str, keep: int) -> None:
        self._folder = CheckpointFolder(folder)
        self._keep = keep

    def make_folder(self) -> None:
        """Makes the folder; raises ValueError if it cannot be written."""
        if is_chief():
            check_log_dir(self._folder.path, "folder")

    @property
    def newest(self) -> str | None:
        """The folder of the newest complete checkpoint; None if there is none."""
        number = self._folder.newest()
        return None if number is None else self._folder.checkpoint(number)

    def load(self, saved: Saved) -> TensorFile | None:
        """Reads the newest checkpoint and checks that `saved` can take it; None if there is none.

        ValueError if it is damaged or of something else, or if workers see different folders.
        """
        number = self._folder.newest()
        if not same_on_all(number or 0, saved.mean_over_workers):
            raise ValueError(
                f"`folder` {self._folder.path!r} does not hold the same checkpoints for each worker: name "
                "one on a file system that all of them share."
            )
        if number is None:
            return None
        file = read_whole(self._folder.checkpoint(number))
        saved.check(file)
        return file

    def save(
        self,
        saved: Saved,
        note: Note,
        arrays: Mapping[str, Array] | None = None,
        iterator: BatchIterator | tf.data.Iterator | None = None,
        *,
        needs_iterator: bool = False,
    ) -> str | None:
        """Writes a checkpoint and removes old ones; returns its folder, or None for a worker that only waits.

        Args:
            saved: whose values and note to save.
            note: what to add to its note.
            arrays: more to save, by names that begin with `tensor_file.OWN`.
            iterator: a dataset's is saved with all that it has shuffled and read ahead.
            needs_iterator: whether one that TensorFlow cannot save is a ValueError; else it is left out.

        Raises:
            OSError: it cannot be written; those from before are as they were.
            TypeError: JSON cannot hold the note.
        """
        values = saved.values()
        path, error = None, None
        if is_chief():
            try:
                path = self._folder.make_next()
                with self._folder.removed_on_error(path):
                    if isinstance(iterator, tf.data.Iterator):
                        reason = write_iterator(iterator_in(path), iterator)
                        if reason and needs_iterator:
                            raise ValueError(
                                f"`iterator` is of a dataset in which TensorFlow knows no place: {reason} "
                                "Save without it, or read the data by a `loops.Batches`."
                            )
                    write_checkpoint(path, {**values, **(arrays or {})}, {**saved.note(), **note})
                self._folder.remove_all_but(self._keep)
            except (OSError, TypeError, ValueError) as caught:
                error = caught
        # The others wait here, so that they never look for what is not there yet, and fail with the chief.
        for_others = f"The worker that writes checkpoints to {self._folder.path!r} could not."
        raise_on_all(error, saved.mean_over_workers, for_others)
        return path


def assign(saved: Saved, file: TensorFile) -> None:
    """Takes what a loaded checkpoint holds."""
    saved.take(file.note, file.values)


class Snapshot:
    """What `assign` changes, as it is now, to put it back."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self._note, self._values = saved.note(), saved.values()

    def put_back(self) -> None:
        self._saved.take(self._note, self._values)


def raise_on_all(error: Exception | None, mean: Mean, for_others: str) -> None:
    """Raises a worker's error; if any worker passes one, those that have none raise `OSError(for_others)`."""
    failed = error is not None if mean is None else mean(float(error is not None)) > 0
    if failed:
        raise error or OSError(for_others)
