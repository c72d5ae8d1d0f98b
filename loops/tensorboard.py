"""Scalars for TensorBoard."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from .callbacks import StepsCallback
from .cluster import is_chief
from .event_file import EventFile


class TensorBoard(StepsCallback):
    """Writes losses, metrics and the learning rate, for every step and every epoch.

    Three runs appear under `log_dir`: `train` and `validation` with the tags `epoch/NAME` (means, by number
    of the epoch, from 1) through `tf.summary`, and `steps` with `step/NAME` (each step's own value, by number
    of the step), written by a thread beside training. TensorBoard follows one file a run while it grows,
    hence the run of its own.

    Args:
        log_dir: folder of the logs, on any file system that TensorFlow writes to; made when training begins.
        every_steps: writes the steps whose number is a multiple of it.

    Raises:
        ValueError: `every_steps` below 1; when training begins, a `log_dir` that cannot be written.

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
        if isinstance(every_steps, bool) or not isinstance(every_steps, int) or every_steps < 1:
            raise ValueError(f"`every_steps` must be a whole number of at least 1, not {every_steps!r}.")
        self.log_dir = os.fspath(log_dir)
        self.every_steps = every_steps
        self._writers: dict[str, Any] = {}
        self._steps: EventFile | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if not is_chief():
            return
        check_log_dir(self.log_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gradloop-tensorboard")

    def on_train_steps_end(self, first: int, values: dict[str, np.ndarray[Any, Any]]) -> None:
        numbers = np.arange(first, first + len(values["loss"]), dtype=np.int64)
        kept = numbers % self.every_steps == 0
        if not kept.any() or self._thread is None:
            return
        if self._steps is None:
            tags = [f"step/{name}" for name in values]
            self._steps = EventFile(os.path.join(self.log_dir, "steps"), tags)
        columns = np.stack([array[kept] for array in values.values()], axis=1)
        self._finish(wait=False)
        self._pending.append(self._thread.submit(self._steps.write, numbers[kept], columns))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._thread is None:
            return
        # Keras' schedules are functions of the step; the optimizer gives the rate of the next step.
        rate = float(tf.convert_to_tensor(self.model.optimizer.learning_rate).numpy())
        values = {"learning_rate": rate, **(logs or {})}
        for name, value in values.items():
            validation = name.startswith("val_")
            with self._writer("validation" if validation else "train").as_default():
                tf.summary.scalar(f"epoch/{name.removeprefix('val_')}", value, step=epoch + 1)
        self._finish(wait=True)
        for file in self._files():
            file.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None
        try:
            self._finish(wait=True)
        finally:
            files, self._writers, self._steps = self._files(), {}, None
            for file in files:
                file.close()

    def _files(self) -> list[Any]:
        return [*self._writers.values(), *([] if self._steps is None else [self._steps])]

    def _writer(self, run: str) -> Any:
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(os.path.join(self.log_dir, run))
        return self._writers[run]

    def _finish(self, wait: bool) -> None:
        """Takes the results of writes that are done, or of all; a failed one raises here."""
        pending, self._pending = self._pending, []
        for write in pending:
            if wait or write.done():
                write.result()
            else:
                self._pending.append(write)


def check_log_dir(log_dir: str) -> None:
    """Makes the folder and proves that it can be written.

    Args:
        log_dir: path of the folder, on any file system that TensorFlow writes to (`gs://...`).

    Raises:
        ValueError: it cannot.

    Example:
        >>> import os, tempfile
        >>> from gradloop import loops
        >>> folder = os.path.join(tempfile.mkdtemp(), "runs", "first")
        >>> loops.check_log_dir(folder)
        >>> os.path.isdir(folder)
        True
    """
    proof = os.path.join(log_dir, f".gradloop-{os.getpid()}-{time.time_ns()}")
    try:
        tf.io.gfile.makedirs(log_dir)
        with tf.io.gfile.GFile(proof, "w") as file:
            file.write("")
        tf.io.gfile.remove(proof)
    except tf.errors.OpError as error:
        raise ValueError(
            f"`log_dir` {log_dir!r} cannot be written: {error.message}. Choose another folder."
        ) from error
