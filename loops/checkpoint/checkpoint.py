"""`Checkpoint`: what a user sets and calls."""

from __future__ import annotations

import datetime
import os
from typing import Literal

from ...optim.common.arguments import real_number, whole_number
from ..callbacks.steps_callback import StepsCallback
from ..support.folders import absolute_path
from .retention import Keep, policies_of
from .save_and_restore import SaveAndRestore
from .time_limit import seconds_of


class Checkpoint(SaveAndRestore, StepsCallback):
    """Saves checkpoints in a folder: weights, optimizer, what trains, the position in the data, the run.

    With `loops.train(..., checkpoint=Checkpoint(folder))`, or with `checkpoint=folder`, a run that ended
    early, even within an epoch, resumes when it is called again, in the same process or a new one: with the
    weights, optimizer state, random numbers, batches, means, history and callbacks that it would have had
    (see `train`). In a loop of your own call `save` and `restore`, with a step or a dict of what it has.

    Values are saved by the names of `TrainStep.state()`, never by index, so nothing is mixed up if what
    trains has changed. `tf.train.list_variables(f"{folder}/checkpoint-3/state")` lists what one holds.

    A checkpoint is a folder `checkpoint-N`, N counting up. Its `manifest.json` has the format, versions,
    step, epoch, date, metrics, and the size and SHA-256 of each file. That is written last, when all else is
    on the disk, so a power cut leaves a checkpoint complete or none. (On `gs://` nothing is synced.) Whoever
    reads one compares the digests; for values TensorFlow compares its own checksums, which takes less time.
    Of several workers, one writes and all read, so they must share the folder.

    `train` continues while a thread writes a checkpoint. It waits only while the values are copied and an
    iterator of a dataset is saved. Until they are written, the copies need memory: on a CPU for the values
    that steps have changed since, on a GPU for all of them, in the host's memory. One checkpoint is written
    at a time: the next one waits for it, and so does the end of `train`. An error of the thread is printed
    at once, and raised by the next save or the end of `train`.

    One process at a time writes to a folder: `train` locks it until it ends, `save` as long as this object
    exists, and other processes get an error. The next process that locks it removes the unfinished files of
    one that was killed. (There is no lock on `gs://` and similar.) Reading needs no lock.

    A step that resumes may have been made with other settings. The checkpoint decides what can change in a
    run: the learning rate, what trains, rates and freezing of groups. The call decides all else: weight
    decay, momentum, clipping, a schedule, the loss, settings of layers (rates, regularizers, dtypes), a
    `transform` and the values of data. A warning names what differs. (Another optimizer or `accumulate`,
    other metrics, or data of another length, kind, batch size or seed are errors.)

    Args:
        folder: path, on any file system that TensorFlow writes to; made when training begins. A relative one
            stays where it is when the program changes its working directory.
        every_epochs: epochs of `train` between two checkpoints; the end of a run is saved in any case.
        every_steps: also saves within epochs, when the number of batches in all of the step's training is a
            multiple of it; None: not by steps.
        every_minutes: also saves within epochs, when so many minutes have passed since the last checkpoint;
            None: not by time.
        keep: how many of the newest to keep; or a list of `loops.Latest`, `loops.Best` and `loops.Every`, to
            keep what any of them says. The newest always stays, for a run to resume from, and damaged ones
            take no place of one that is whole.
        on_damaged: "previous" to go on from the newest checkpoint that reads as a whole, with a warning that
            names the files of newer ones that do not, and why; "raise" for an error instead.
        time_limit: ends `train` as SIGTERM does (see there) when it has run for so long: "11h50m", "45m" or
            "90s", a number of seconds, or a `datetime.timedelta`. Each call of `train` counts from its own
            beginning, since a process may live longer than a job, as that of a notebook does: leave time for
            what the program does before, and for saving. None for no limit.
        verbose: 1 to print where training resumes, 0 for nothing.

    Raises:
        TypeError: a folder that is no path, or no number where one is wanted.
        ValueError: a number out of range, an empty `keep`, a time that does not parse; at the first epoch's
            end, `Best` of a metric that is not logged; when training begins, a folder that cannot be written,
            or that another process, or another run of this one, writes to.

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

    time_limit: float | None = None  # in seconds; that of a checkpoint from a pickle of an earlier version

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_epochs: int = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: Keep = 3,
        on_damaged: Literal["previous", "raise"] = "previous",
        time_limit: str | float | datetime.timedelta | None = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
            raise TypeError(f"`folder` must be the path of a folder, not {folder!r}.")
        self.folder = absolute_path(folder)
        self.every_epochs = whole_number("every_epochs", every_epochs, at_least=1)
        self.every_steps, self.every_minutes = every_steps, every_minutes
        if every_steps is not None:
            self.every_steps = whole_number("every_steps", every_steps, at_least=1)
        if every_minutes is not None:
            self.every_minutes = real_number("every_minutes", every_minutes, above=0)
        policies_of(keep)
        self.keep = keep
        if on_damaged not in ("previous", "raise"):
            raise ValueError(f'`on_damaged` must be "previous" or "raise", not {on_damaged!r}.')
        self.on_damaged = on_damaged
        self.time_limit = None if time_limit is None else seconds_of(time_limit)
        self.verbose = verbose

    # As a callback, it only sees to it that calls on the device end when it is time to save: a call of
    # `train` writes the checkpoints, since it knows what is to be saved of the run.

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if self.train_step is None:
            raise ValueError(
                "`Checkpoint` saves the state of a `loops.TrainStep`, and has none: pass it to "
                "`loops.train`, or call `save(step)` and `restore(step)` in a loop of your own."
            )

    def steps_allowed(self, done: int) -> int | None:
        return None if self.every_steps is None else self.every_steps - done % self.every_steps
