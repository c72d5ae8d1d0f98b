"""Scalars of every step and every epoch."""

from __future__ import annotations

import tensorflow as tf

from ...optim.common.types import Array
from .part import Board, Part


class Scalars(Part):
    """`step/NAME` in the run `steps`, `epoch/NAME` in the runs `train` and `validation`."""

    def __init__(self, every_steps: int) -> None:
        self._every = every_steps

    def on_steps(self, board: Board, first: int, values: dict[str, Array]) -> None:
        selected = slice(-first % self._every, None, self._every)
        numbers = range(first, first + len(values["loss"]))[selected]
        columns = {f"step/{name}": array[selected] for name, array in values.items()}
        board.files.scalars("steps", numbers, columns)

    def on_epoch_end(self, board: Board, epoch: int, logs: dict[str, float]) -> None:
        # With a schedule of Keras', this is the rate of the next step.
        rate = float(tf.convert_to_tensor(board.model.optimizer.learning_rate).numpy())
        runs: dict[str, dict[str, list[float]]] = {}
        for name, value in {"learning_rate": rate, **logs}.items():
            run = "validation" if name.startswith("val_") else "train"
            runs.setdefault(run, {})[f"epoch/{name.removeprefix('val_')}"] = [float(value)]
        for run, columns in runs.items():
            board.files.scalars(run, [epoch], columns)
