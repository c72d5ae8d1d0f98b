"""How many steps a loop has run, in a variable that the step itself may read."""

from __future__ import annotations

import tensorflow as tf

from ..support.tensorflow_private import reads


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
        self._is_read = bool(self._is_read) or reads(self._variable)
        if self._is_read:
            with tf.control_dependencies([row]):
                self._variable.assign_add(1, read_value=False)

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
