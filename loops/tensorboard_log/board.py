"""`TensorBoard`: what TensorBoard shows of a run."""

from __future__ import annotations

import functools
import os
import warnings
import weakref
from collections.abc import Mapping
from typing import Any

from ...optim import FilterLike
from ...optim.common.arguments import whole_number
from ...optim.common.types import Array, Json, Scalar
from ..callbacks.steps_callback import StepsCallback
from ..distribute.cluster import is_chief
from ..step.watch import Measured, Watch
from ..support.errors import call_each
from . import arguments
from .arguments import HParam
from .event_files import EventFiles
from .measured import MeasuredValues
from .part import Part
from .scalars import Scalars


class TensorBoard(StepsCallback):
    """Writes losses, metrics and the learning rate, for every step and every epoch.

    Three runs appear under `log_dir`: `train` and `validation` with the tags `epoch/NAME` (means, by number
    of the epoch, from 1), and `steps` with `step/NAME` (each step's own value, by number of the step). Steps
    are a run of their own since TensorBoard follows a single growing file in each. A thread writes the files,
    as `tf.summary` would; they are complete when training ends.

    Args:
        log_dir: folder of the logs, on any file system that TensorFlow writes to; made when training begins.
        every_steps: writes the steps whose number is a multiple of it.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a `log_dir` that is no path, a number below 1; when training begins, a `log_dir` that
            cannot be written, or that another run writes to.

    Example:
        >>> import os, tempfile, keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> data, folder = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), 4), tempfile.mkdtemp()
        >>> board = loops.TensorBoard(folder)
        >>> step = loops.TrainStep(model, "mse", "sgd")
        >>> _ = loops.train(step, data, epochs=2, validation=data, callbacks=[board])
        >>> sorted(os.listdir(folder))
        ['steps', 'train', 'validation']
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        every_steps: int = 1,
        *,
        watch: str | FilterLike | None = "groups",
        watch_every: int = 10,
        histograms: FilterLike | None = None,
        histograms_every: int = 1000,
        activations: FilterLike | None = None,
        images: int = 0,
        graph: bool = True,
        profile: tuple[int, int] | None = None,
        hparams: Mapping[str, HParam] | None = None,
    ) -> None:
        super().__init__()
        self.log_dir = arguments.folder("log_dir", log_dir)
        every_steps = whole_number("every_steps", every_steps, at_least=1)
        self._watch = Watch(
            arguments.filter_or_none("watch", watch, words='"groups", "variables", '),
            whole_number("watch_every", watch_every, at_least=1),
            arguments.filter_or_none("histograms", histograms),
            whole_number("histograms_every", histograms_every, at_least=1),
            arguments.filter_or_none("activations", activations),
        )
        whole_number("images", images, at_least=0)
        arguments.true_or_false("graph", graph)
        arguments.step_range("profile", profile)
        arguments.hyperparameters("hparams", hparams)
        self.files = EventFiles(self.log_dir)
        self._parts: list[Part] = [Scalars(every_steps), MeasuredValues()]
        self._in_session = False

    # -- a loop of one's own -------------------------------------------------------------------------------

    def write(self, step: int, values: Mapping[str, float | Scalar | Array]) -> None:
        """Writes scalars into the run `steps`, in a loop of one's own or beside what `train` writes.

        The folder is taken with the first call, and let go by `close`, by leaving a `with`, or at the end of
        training. In a loop of one's own, the first call also begins a session: TensorBoard forgets what
        earlier ones wrote from this step on. Of several workers, the chief writes.

        Args:
            step: number of the step.
            values: tag -> number or scalar tensor, for this step; or all of them (steps,), as `step.run`
                returns them, for as many steps from this one on.

        Raises:
            TypeError: `step` is no whole number, a tag no text, or a value not numeric.
            ValueError: `step` below 0, values of another shape, or a folder as for training.

        Example:
            >>> import tempfile
            >>> from gradloop import loops
            >>> with loops.TensorBoard(tempfile.mkdtemp()) as board:
            ...     for number in range(1, 4):
            ...         board.write(number, {"loss": 1 / number, "entropy": tf.constant(0.5)})
            ...     board.write(4, {"loss": np.array([0.2, 0.1])})  # of steps 4 and 5
        """
        step = whole_number("step", step, at_least=0)
        columns = arguments.columns("values", values)
        if not is_chief():
            return
        self._open()
        numbers = range(step, step + len(next(iter(columns.values()), ())))
        self.files.scalars("steps", numbers, columns)

    def close(self) -> None:
        """Completes the files and lets go of the folder; `train` does so at its end."""
        self.files.close()

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> None:
        if not self.files.is_open:
            self.files.open()
            weakref.finalize(self, self.files.close)  # where nobody closes them, also at the program's end

    # -- a run of `train` ----------------------------------------------------------------------------------

    def watch(self) -> Watch | None:
        watch = self._watch
        nothing = watch.variables is None and watch.histograms is None and watch.activations is None
        return None if nothing else watch

    def steps_allowed(self, done: int) -> int | None:
        limits = [part.steps_allowed(done) for part in self._parts]
        return min((limit for limit in limits if limit is not None), default=None)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if not is_chief():
            return
        self._open()
        try:
            self.files.hold()
            self._tell("on_train_begin")
        except BaseException as error:
            call_each([self.files.close], error)
            raise

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self.files.is_open and not self._in_session:
            self._in_session = True
            assert self.train_step is not None
            step = int(self.train_step.batches_done.numpy()) + 1
            if step == 1 and self.files.found_logs:
                warnings.warn(
                    f"`log_dir` {self.log_dir!r} holds the logs of an earlier run: from step 1 on, "
                    "TensorBoard shows this one's in their place. To see both, choose another folder.",
                    stacklevel=2,
                )
            self.files.start({"steps": step, "train": epoch + 1, "validation": epoch + 1})
            self._tell("on_session", step, epoch + 1)

    def on_train_steps_end(self, first: int, values: dict[str, Array]) -> None:
        self._tell("on_steps", first, values)

    def on_measured(self, number: int, measured: Measured) -> None:
        self._tell("on_measured", number, measured)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._tell("on_epoch_end", epoch + 1, logs or {})
        self.files.flush(wait=False)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._in_session = False
        endings = [functools.partial(part.on_train_end, self, logs or {}) for part in self._parts]
        call_each([*(endings if self.files.is_open else ()), self.files.close])

    def state(self) -> Json:
        """Called when a checkpoint is written: hands the logs of the steps that it holds to the file system.

        Those of a run that is killed afterwards, and resumes there, would lack them otherwise.
        """
        self.files.flush(wait=True)
        return {}

    def set_state(self, state: Json) -> None:
        """Takes what `state` returned."""

    def _tell(self, hook: str, *given: Any) -> None:
        if self.files.is_open:
            for part in self._parts:
                getattr(part, hook)(self, *given)
