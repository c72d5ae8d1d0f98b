"""Checkpoints: all that training needs to go on as if nothing had ended it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ..callbacks.steps_callback import StepsCallback
from ..data.batches import Batches
from ..data.position import check_same_data, position_of, read_iterator, write_iterator
from ..distribute.cluster import is_chief
from ..distribute.scope import scope_of
from ..step.base_step import check_iterator
from ..step.train_step import TrainStep
from ..support.folders import check_log_dir
from .directory import CheckpointFolder, iterator_in, state_in
from .tensor_file import TensorFile, write_state
from .trained_variables import check_trained_variables, train_as_saved, trained_variables_of


class Checkpoint(StepsCallback):
    """Keeps checkpoints in a folder: weights, optimizer, what trains, the place in the data, the run.

    With `loops.train(..., checkpoint=Checkpoint(folder))`, or simply `checkpoint=folder`, a run that ended
    early, in the middle of an epoch too, goes on when it is called again, in a new process or in the same:
    with the weights, optimizer state, random numbers, batches, means, history and callbacks that it would
    have had (see `train`). In a loop of your own call `save` and `restore`.

    Values are kept by the names of `TrainStep.state()`, never by position, so nothing is mixed up if what
    trains has changed. A checkpoint is a folder `checkpoint-N`, N counting up; it is complete once its file
    `state.index` is there, which is written last. `tf.train.list_variables(f"{folder}/checkpoint-3/state")`
    lists what one holds. Of several workers, one writes and all read: the folder must be shared by them.

    Args:
        folder: where to keep them, on any file system that TensorFlow writes to; made when training begins.
        every_epochs: epochs of `train` between two checkpoints; the last one of a run has its own anyway.
        every_steps: saves in the middle of epochs as well, when the number of batches in all of the step's
            training is a multiple of it; None for not.
        every_minutes: saves in the middle of epochs as well, when so many minutes have passed since the last
            one; None for not.
        keep: how many to keep, the newest.
        verbose: 1 to say from where training goes on, 0 to say nothing.

    Raises:
        TypeError: a folder that is no path.
        ValueError: a number below its least; when training begins, a folder that cannot be written.

    Example:
        >>> import tempfile, keras, numpy as np
        >>> from gradloop import loops
        >>> def training(epochs):
        ...     keras.utils.set_random_seed(0)
        ...     model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
        ...     data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        ...     step = loops.TrainStep(model, "mse", "adam")
        ...     checkpoint = loops.Checkpoint(folder, verbose=0)
        ...     return loops.train(step, data, epochs=epochs, checkpoint=checkpoint).history["loss"]
        >>> folder = tempfile.mkdtemp()
        >>> first = training(epochs=2)
        >>> both = training(epochs=4)
        >>> len(both), both[:2] == first
        (4, True)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_epochs: int = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 3,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
            raise TypeError(f"`folder` must be the path of a folder, not {folder!r}.")
        counts: dict[str, Any] = {"every_epochs": every_epochs, "every_steps": every_steps, "keep": keep}
        for name, count in counts.items():
            whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
            if not (whole and count >= 1) and not (name == "every_steps" and count is None):
                raise ValueError(f"`{name}` must be a whole number of at least 1, not {count!r}.")
        number = isinstance(every_minutes, (int, float)) and not isinstance(every_minutes, bool)
        if every_minutes is not None and not (number and every_minutes > 0):
            raise ValueError(f"`every_minutes` must be a number above 0, not {every_minutes!r}.")
        self.folder = os.fspath(folder)
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.keep = keep
        self.verbose = verbose
        self._folder = CheckpointFolder(self.folder)
        self._saved = time.monotonic()

    # -- for a loop of your own ----------------------------------------------------------------------------

    def save(self, step: TrainStep, iterator: Any = None) -> str | None:
        """Writes a checkpoint, and removes the oldest of more than `keep`.

        Args:
            step: whose state to keep.
            iterator: `iter(data)` of a `Batches` or a `tf.data.Dataset`, whose place is kept too. That of a
                dataset is kept with all that it has shuffled or read ahead.

        Returns:
            The folder of the checkpoint; None for a worker that leaves writing to another.

        Raises:
            TypeError: `step` is no `TrainStep`.
            ValueError: no iterator, or one in which TensorFlow knows no place.
            OSError: it cannot be written; those from before are as they were.

        Example:
            >>> import tempfile, keras, numpy as np
            >>> from gradloop import loops
            >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
            >>> step = loops.TrainStep(model, "mse", "adam")
            >>> data = loops.Batches(np.ones((12, 3)), np.zeros((12, 2)), batch_size=4)
            >>> checkpoint = loops.Checkpoint(tempfile.mkdtemp())
            >>> iterator = checkpoint.restore(step, data)  # nothing there yet: the data's beginning
            >>> _ = step.run(iterator, 2)
            >>> _ = checkpoint.save(step, iterator)
            >>> again = checkpoint.restore(step, data)
            >>> again.epoch, again.position
            (0, 2)
        """
        _check_step(step)
        if iterator is not None:
            check_iterator(iterator)
        place = None if iterator is None else position_of(iterator)
        return self.write(step, {"data": place}, {}, iterator, must=True)

    def restore(self, step: TrainStep, data: Any = None) -> Any:
        """Gives a step the state of the newest checkpoint; none there, nothing changes.

        Args:
            step: made as the one that was saved.
            data: the `Batches` or `tf.data.Dataset` that was being read.

        Returns:
            An iterator of `data` that goes on where `save` was called or, without a checkpoint, what
            `iter(data)` gives; None without `data`. The next `iter(data)` of a `Batches` is the epoch after
            it. (For a dataset, TensorFlow may shuffle later passes in another order than without the end.)

        Raises:
            TypeError: `step` is no `TrainStep`, or `data` neither of these.
            ValueError: the checkpoint is damaged or of another model, optimizer, step or data; nothing was
                changed then.
        """
        _check_step(step)
        if data is not None and not isinstance(data, (Batches, tf.data.Dataset)):
            raise TypeError(f"`data` must be a `loops.Batches` or a `tf.data.Dataset`, not {data!r}.")
        file = self.open(step)
        place = None if file is None else file.note["data"]
        if file is not None and data is not None:
            if place is None:
                raise ValueError(
                    f"`data` has no place in the checkpoint {file.path!r}, which was saved without an "
                    "iterator: restore it without `data`."
                )
            check_same_data(place, data, file.path)
        iterator: Any = None
        if isinstance(data, Batches):
            at = (data.epoch, 0) if place is None else (place["epoch"], place["position"])
            iterator = data.iterator(*at)
        elif data is not None:
            iterator = iter(data)
            if file is not None:
                read_iterator(iterator_in(os.path.dirname(file.path)), iterator)
        if file is not None:
            self.give(step, file)
        if isinstance(data, Batches):
            data.epoch = iterator.epoch + 1  # as `iter(data)` leaves it
        return iterator

    @property
    def newest(self) -> str | None:
        """The folder of the newest complete checkpoint; None if there is none."""
        newest = self._folder.newest()
        return None if newest is None else self._folder.place(newest)

    # -- for `train` ---------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if self.train_step is None:
            raise ValueError(
                "`Checkpoint` keeps the state of a `loops.TrainStep`, and has none: pass it to "
                "`loops.train`, or call `save(step)` and `restore(step)` in a loop of your own."
            )
        self._saved = time.monotonic()

    def steps_allowed(self, done: int) -> int | None:
        return None if self.every_steps is None else self.every_steps - done % self.every_steps

    def check_folder(self) -> None:
        """Makes the folder; raises ValueError if it cannot be written."""
        if is_chief():
            check_log_dir(self.folder, "folder")

    def due(self, step: TrainStep) -> bool:
        """Whether to save in the middle of an epoch, after what `step` has trained."""
        if self.every_steps is not None and int(step.batches_done.numpy()) % self.every_steps == 0:
            return True
        if self.every_minutes is None:
            return False
        waited = time.monotonic() - self._saved
        # Workers read some values together, so they save together.
        return (
            waited if step.mean_over_workers is None else step.mean_over_workers(waited)
        ) >= 60 * self.every_minutes

    def open(self, step: TrainStep) -> TensorFile | None:
        """Opens the newest checkpoint and checks that `step` can take it; None if there is none."""
        newest = self._folder.newest()
        if not _all_see(newest or 0, step.mean_over_workers):
            raise ValueError(
                f"`folder` {self.folder!r} does not hold the same checkpoints for each worker: name one on a "
                "file system that all of them share."
            )
        if newest is None:
            return None
        file = TensorFile(self._folder.file(newest))
        check_trained_variables(step, file)
        return file

    def give(self, step: TrainStep, file: TensorFile) -> None:
        """Gives a step what an open checkpoint holds: what trains first, then all values."""
        train_as_saved(step, file.note["choice"])
        with scope_of(step.strategy):
            file.assign(step.state())

    def write(
        self,
        step: TrainStep,
        note: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray[Any, Any]],
        iterator: Any,
        must: bool = False,
    ) -> str | None:
        """Writes a checkpoint; see `save`.

        Args:
            note: what else to keep, as JSON can hold it.
            arrays: what else to keep, by names that begin with `OWN`.
            iterator: of the data; None for none.
            must: whether an iterator that cannot be written is an error.
        """
        with scope_of(step.strategy):  # where workers read values together, all must
            values = {name: variable.numpy() for name, variable in step.state().items()}
        failed, place = None, None
        if is_chief():
            try:
                place = self._folder.make_next()
                with self._folder.filling(place):
                    lost = ""
                    if isinstance(iterator, tf.data.Iterator):
                        lost = write_iterator(iterator_in(place), iterator)
                    if lost and must:
                        raise ValueError(
                            f"`iterator` is of a dataset in which TensorFlow knows no place: {lost} Save "
                            "without it, or read the data by a `loops.Batches`."
                        )
                    full = {"choice": trained_variables_of(step), **note}
                    write_state(state_in(place), {**values, **arrays}, full)
                self._folder.keep(self.keep)
            except (OSError, TypeError, ValueError) as error:
                failed = error
        # The others wait here, so that they never look for what is not there yet, and end with the chief.
        if (
            step.mean_over_workers is not None
            and step.mean_over_workers(float(failed is not None)) > 0
            and failed is None
        ):
            failed = OSError(f"The worker that writes checkpoints to {self.folder!r} could not.")
        if failed is not None:
            raise failed
        self._saved = time.monotonic()
        return place


def _check_step(step: Any) -> None:
    if not isinstance(step, TrainStep):
        raise TypeError(f"`step` must be a `loops.TrainStep`, not {step!r}.")


def _all_see(number: int, mean: Callable[[float], float] | None) -> bool:
    """Whether all workers pass the same number; the same answer for each.

    Args:
        number: of this worker.
        mean: see `mean_over_workers_of`.
    """
    if mean is None:
        return True
    own = float(number % 4096)  # of a number that float32 holds with digits to spare
    distance = mean(abs(own - mean(own)))
    return distance < 1e-3
