"""How many steps a loop has run, in a variable that the step itself may read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from ..support.tensorflow_private import reads_variable


class StepNumber:
    """The number of the step that runs, from 1; an int64 scalar, which has no operation where it is not used.

    Args:
        count: how many steps ran before.
    """

    def __init__(self, count: tf.Variable) -> None:
        self._count = count

    def __tf_tensor__(self, dtype: tf.DType | None = None, name: str | None = None) -> tf.Tensor:
        return tf.cast(self._count + 1, dtype or tf.int64, name)


def _of_tensor(operator: str) -> Callable[..., tf.Tensor]:
    return lambda number, *others: getattr(tf.convert_to_tensor(number), operator)(*others)


for _operator in tf.Tensor.OVERLOADABLE_OPERATORS:  # `tf.summary.experimental.get_step() % 100`
    setattr(StepNumber, _operator, _of_tensor(_operator))


class StepCount:
    """Adds the steps of calls to `variable`, an int64 scalar.

    A loss, a layer or a learning rate that reads it in the step (as a summary's `step`, say) gets 0, 1, 2,
    ...: it is then counted on the device, after each step. A step that does not read it has no operation for
    it, and is counted after the call.
    """

    def __init__(self, variable: tf.Variable) -> None:
        self._variable = variable
        self._is_read: bool | None = None  # by the step; not known before it is traced
        self._before = 0

    def after_step(self, row: tf.Tensor) -> None:
        """Is called while a loop is traced, behind the step that makes `row`."""
        self._is_read = bool(self._is_read) or reads_variable(self._variable)
        if self._is_read:
            with tf.control_dependencies([row]):
                self._variable.assign_add(1, read_value=False)

    @contextlib.contextmanager
    def default_summary_step(self) -> Iterator[None]:
        """In the body, `tf.summary` takes the number of the step, from 1, unless a default was set."""
        if tf.summary.experimental.get_step() is not None:
            yield
            return
        tf.summary.experimental.set_step(StepNumber(self._variable))
        try:
            yield
        finally:
            tf.summary.experimental.set_step(None)

    def start_call(self) -> None:
        if self._is_read is not False:
            self._before = int(self._variable.numpy())

    def end_call(self, steps: int) -> None:
        """Counts the steps of a call; of one that failed, those that were made."""
        if self._is_read:
            self._variable.assign(self._before + steps, read_value=False)
        else:
            self.add(steps)

    def add(self, steps: int) -> None:
        self._variable.assign_add(steps, read_value=False)
