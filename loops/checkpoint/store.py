"""Writing a step's checkpoint and reading it again, on one process or on several workers."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from ...optim.common.types import Array
from ...optim.naming.stable_names import tree_of
from ...optim.private.keras_private import weights_were_set
from ..data.batches import BatchIterator
from ..data.position import write_iterator
from ..distribute.cluster import is_chief
from ..distribute.same_order import Mean, same_on_all
from ..distribute.scope import scope_of
from ..step.train_step import TrainStep
from ..support.folders import check_log_dir
from .directory import CheckpointFolder, iterator_in, state_in
from .notes import Note
from .settings import made_with
from .tensor_file import TensorFile, write_state
from .trained_variables import check_trained_variables, train_as_saved, trained_variables_of


class CheckpointStore:
    """The checkpoints in a folder.

        store.save(step, note)       # the chief writes, the other workers wait for it
        file = store.load(step)      # the newest, read as a whole and checked; changes nothing
        assign(step, file)           # what trains, then every value

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

    def load(self, step: TrainStep) -> TensorFile | None:
        """Reads the newest checkpoint and checks that `step` can take it; None if there is none.

        ValueError if it is damaged or of another step, or if workers see different folders.
        """
        number = self._folder.newest()
        if not same_on_all(number or 0, step.mean_over_workers):
            raise ValueError(
                f"`folder` {self._folder.path!r} does not hold the same checkpoints for each worker: name "
                "one on a file system that all of them share."
            )
        if number is None:
            made_with(step)
            return None
        file = TensorFile(state_in(self._folder.checkpoint(number)))
        check_trained_variables(step, file)
        return file

    def save(
        self,
        step: TrainStep,
        note: Note,
        arrays: Mapping[str, Array] | None = None,
        iterator: BatchIterator | tf.data.Iterator | None = None,
        *,
        needs_iterator: bool = False,
    ) -> str | None:
        """Writes a checkpoint and removes old ones; returns its folder, or None for a worker that only waits.

        Args:
            step: whose state to save.
            note: what to save beside it; the `choice` is added here.
            arrays: more to save, by names that begin with `tensor_file.OWN`.
            iterator: a dataset's is saved with all that it has shuffled and read ahead.
            needs_iterator: whether one that TensorFlow cannot save is a ValueError; else it is left out.

        Raises:
            OSError: it cannot be written; those from before are as they were.
            TypeError: JSON cannot hold the note.
        """
        with scope_of(step.strategy):  # where reading a value takes all workers, all must read
            values = {name: variable.numpy() for name, variable in step.state().items()}
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
                    full: Note = {"choice": trained_variables_of(step), "settings": made_with(step), **note}
                    write_state(state_in(path), {**values, **(arrays or {})}, full)
                self._folder.remove_all_but(self._keep)
            except (OSError, TypeError, ValueError) as caught:
                error = caught
        # The others wait here, so that they never look for what is not there yet, and fail with the chief.
        for_others = f"The worker that writes checkpoints to {self._folder.path!r} could not."
        raise_on_all(error, step.mean_over_workers, for_others)
        return path


def assign(step: TrainStep, file: TensorFile) -> None:
    """Has a step train what a loaded checkpoint says, then gives its state the checkpoint's values."""
    train_as_saved(step, file.note["choice"])
    with scope_of(step.strategy):
        file.assign(step.state())
        weights_were_set(node.layer for node in tree_of(step.model).nodes)


class Snapshot:
    """What `assign` changes of a step, as it is now, to put it back."""

    def __init__(self, step: TrainStep) -> None:
        with scope_of(step.strategy):
            self._values = {name: variable.numpy() for name, variable in step.state().items()}
        self._choice = trained_variables_of(step)

    def put_back(self, step: TrainStep) -> None:
        train_as_saved(step, self._choice)
        with scope_of(step.strategy):
            for name, variable in step.state().items():
                variable.assign(self._values[name])


def raise_on_all(error: Exception | None, mean: Mean, for_others: str) -> None:
    """Raises a worker's error; if any worker passes one, those that have none raise `OSError(for_others)`."""
    failed = error is not None if mean is None else mean(float(error is not None)) > 0
    if failed:
        raise error or OSError(for_others)
