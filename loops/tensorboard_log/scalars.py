"""Scalars of every step and every epoch."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from ...optim.common.messages import short_repr
from ...optim.common.types import Array
from .content import Board, Content


class Scalars(Content):
    """`step/NAME` in the run `steps`, `epoch/NAME` in the runs `train` and `validation`."""

    def __init__(self, every_steps: int) -> None:
        self._every = every_steps

    def on_steps(self, board: Board, first: int, values: dict[str, Array]) -> None:
        selected = slice(-first % self._every, None, self._every)
        numbers = range(first, first + len(values["loss"]))[selected]
        columns = {f"step/{name}": array[selected] for name, array in values.items()}
        board.files.write_scalars("steps", numbers, columns)

    def on_epoch_end(self, board: Board, epoch: int, logs: dict[str, float]) -> None:
        # With a Keras schedule, this is the rate of the next step. A `MultiOptimizer` has none.
        rate = getattr(board.model.optimizer, "learning_rate", None)
        rates = {} if rate is None else {"learning_rate": float(tf.convert_to_tensor(rate).numpy())}
        runs: dict[str, dict[str, list[float]]] = {}
        for name, value in (rates | logs).items():
            run = "validation" if name.startswith("val_") else "train"
            runs.setdefault(run, {})[f"epoch/{name.removeprefix('val_')}"] = [value]
        for run, columns in runs.items():
            board.files.write_scalars(run, [epoch], columns)


def numeric_logs(logs: Mapping[str, object], when: str = "") -> dict[str, float]:
    """The numeric values among logs, into which callbacks may put anything.

    Args:
        when: names the logs in a warning about values that are left out; "" for no warning.

    Example:
        >>> numeric_logs({"loss": np.float32(0.5), "note": "3", "each": np.ones(1), "best": None})
        {'loss': 0.5}
    """
    numbers = {}
    for name, value in logs.items():
        with contextlib.suppress(TypeError, ValueError):
            if not isinstance(value, (str, bytes)) and np.ndim(value) == 0:  # type: ignore[arg-type]
                numbers[name] = float(value)  # type: ignore[arg-type]  # what either raises is suppressed
    others = ", ".join(f"{name!r}: {short_repr(logs[name])}" for name in sorted(logs.keys() - numbers))
    if others and when:
        warnings.warn(
            f"The logs of {when} hold values that are not numbers, and are left out of TensorBoard: "
            f"{others}. Later ones do not warn.",
            stacklevel=2,
        )
    return numbers
