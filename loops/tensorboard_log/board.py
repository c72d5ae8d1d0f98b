"""Scalars for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import tensorflow as tf

from ...optim.common.arguments import whole_number
from ...optim.common.types import Array
from ..callbacks.steps_callback import StepsCallback
from ..distribute.cluster import is_chief
from ..support.errors import call_each
from ..support.folders import check_log_dir
from .event_writer import EventWriter


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
        TypeError: `every_steps` is no whole number.
        ValueError: a `log_dir` that is no path, `every_steps` below 1; when training begins, a `log_dir` that
            cannot be written.

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

    def __init__(self, log_dir: str | os.PathLike[str], every_steps: int = 1) -> None:
        super().__init__()
        if not isinstance(log_dir, (str, os.PathLike)) or not os.fspath(log_dir):
            raise ValueError(f"`log_dir` must be the path of a folder, not {log_dir!r}.")
        self.log_dir = os.fspath(log_dir)
        self.every_steps = whole_number("every_steps", every_steps, at_least=1)
        self._thread: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []
        self._files: dict[str, EventWriter] = {}  # by run; only the thread uses it while there is one

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if not is_chief():
            return
        check_log_dir(self.log_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gradloop-tensorboard")

    def on_train_steps_end(self, first: int, values: dict[str, Array]) -> None:
        self._submit(lambda: self._write_steps(first, values))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        # With a schedule of Keras', this is the rate of the next step.
        rate = float(tf.convert_to_tensor(self.model.optimizer.learning_rate).numpy())
        values = {"learning_rate": rate, **(logs or {})}
        self._submit(lambda: self._write_epoch(epoch + 1, values))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None
        pending, self._pending = self._pending, []
        files, self._files = self._files, {}
        call_each([lambda: [write.result() for write in pending], *(file.close for file in files.values())])

    def _submit(self, write: Callable[[], None]) -> None:
        """Has the thread write. If that fails, a later call raises the error, or the end of training."""
        if self._thread is None:
            return
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()
        self._pending.append(self._thread.submit(write))

    def _write_steps(self, first: int, values: dict[str, Array]) -> None:
        selected = slice(-first % self.every_steps, None, self.every_steps)
        numbers = range(first, first + len(values["loss"]))[selected]
        if numbers:
            columns = {f"step/{name}": array[selected].tolist() for name, array in values.items()}
            self._file("steps").write(numbers, columns)

    def _write_epoch(self, number: int, values: dict[str, float]) -> None:
        runs: dict[str, dict[str, list[float]]] = {}
        for name, value in values.items():
            run = "validation" if name.startswith("val_") else "train"
            runs.setdefault(run, {})[f"epoch/{name.removeprefix('val_')}"] = [float(value)]
        for run, columns in runs.items():
            self._file(run).write([number], columns)
        for file in self._files.values():
            file.flush()

    def _file(self, run: str) -> EventWriter:
        if run not in self._files:
            self._files[run] = EventWriter(os.path.join(self.log_dir, run))
        return self._files[run]
