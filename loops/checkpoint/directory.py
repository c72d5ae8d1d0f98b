"""The folder that checkpoints lie in, one folder each, numbered."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import tensorflow as tf

from .tensor_file import holds_state

_NAME = re.compile(r"checkpoint-(\d+)/?")  # cloud storage lists folders with a slash


class CheckpointFolder:
    """Folders `checkpoint-1`, `checkpoint-2`, ... in one folder.

    One is complete once its file `state.index` is there, which is written last and removed first.

    Args:
        path: of the folder; it need not be there.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def newest(self) -> int | None:
        """The number of the newest complete one; None if there is none."""
        complete = self._complete()
        return complete[-1] if complete else None

    def make_next(self) -> str:
        """Makes the folder for the next one, above all numbers that are taken, and returns its path.

        Raises:
            OSError: it cannot be made.
        """
        try:
            numbers = self._numbers()
            place = self.place(numbers[-1] + 1 if numbers else 1)
            tf.io.gfile.makedirs(place)
        except tf.errors.OpError as error:
            raise OSError(f"No checkpoint can be written in {self.path!r}: {error.message}.") from error
        return place

    def keep(self, count: int) -> None:
        """Removes all but the newest complete ones: older ones, and what was left half-written before."""
        # What cannot be removed now, the next call finds again; it is no reason to end training.
        with contextlib.suppress(tf.errors.OpError):
            complete = self._complete()
            for number in self._numbers():
                if number < complete[-1] and number not in complete[-count:]:
                    self._remove(number)

    @contextlib.contextmanager
    def filling(self, place: str) -> Iterator[None]:
        """Removes a folder if its body, which is to write the checkpoint, fails."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(tf.errors.OpError):  # the body's error is the one to tell
                tf.io.gfile.rmtree(place)
            raise

    def place(self, number: int) -> str:
        """The folder of a checkpoint."""
        return os.path.join(self.path, f"checkpoint-{number}")

    def file(self, number: int) -> str:
        """The path of its state, as `TensorFile` takes it."""
        return state_in(self.place(number))

    def _remove(self, number: int) -> None:
        index = f"{self.file(number)}.index"
        if tf.io.gfile.exists(index):
            tf.io.gfile.remove(index)
        tf.io.gfile.rmtree(self.place(number))

    def _complete(self) -> list[int]:
        return [number for number in self._numbers() if holds_state(self.file(number))]

    def _numbers(self) -> list[int]:
        if not tf.io.gfile.isdir(self.path):
            return []
        found = [match for match in map(_NAME.fullmatch, tf.io.gfile.listdir(self.path)) if match]
        return sorted(int(match.group(1)) for match in found)


def state_in(place: str) -> str:
    """The path of the state in the folder of a checkpoint."""
    return f"{place}/state"


def iterator_in(place: str) -> str:
    """The path of the place in a dataset in the folder of a checkpoint."""
    return f"{place}/iterator"
