"""Writes scalars of a loop of one's own into a folder of logs."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, TypeVar

from ...optim.common.arguments import whole_number
from ...optim.common.types import Array, Scalar
from ..distribute.cluster import is_chief
from . import arguments
from .event_files import EventFiles

Self = TypeVar("Self", bound="LogWriter")


class LogWriter:
    """The part of `TensorBoard` that needs no `train`: `write`, and a `with` that closes the files."""

    def __init__(self, log_dir: str) -> None:
        super().__init__()
        self.log_dir = log_dir
        self.files = EventFiles(log_dir)

    def write(self, step: int, values: Mapping[str, float | Scalar | Array]) -> None:
        """Writes scalars into the run `steps`, in a loop of one's own or beside what `train` writes.

        The first call locks the folder; `close`, leaving a `with` or the end of training releases it. In a
        loop of one's own, the first call, and the first after a `close`, also begins a session: TensorBoard
        drops what earlier sessions wrote from this step on. Of several workers, only the chief writes.

        Put the `TensorBoard` into the dict that a `Checkpoint` saves: then the files hold all steps of the
        checkpoint, and later events are removed when the loop resumes.

        Args:
            step: number of the step.
            values: tag -> number or scalar tensor, of this step; or tag -> array (steps,), as `step.run`
                returns them, of this step and those after it.

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
        if is_chief():
            self._open()
            numbers = range(step, step + len(next(iter(columns.values()), ())))
            self.files.write_scalars("steps", numbers, columns)

    def close(self) -> None:
        """Completes the files and releases the folder; `train` does so at its end."""
        self.files.close()
        self.files.reset_session()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _open(self) -> None:
        if not self.files.is_open:
            self.files.open()
            weakref.finalize(self, self.files.close)  # if the user does not, also at exit of the program
