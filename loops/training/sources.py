"""Where epochs come from: a `Batches` or a `tf.data.Dataset`, read pass after pass."""

from __future__ import annotations

from typing import Any, TypeAlias

import tensorflow as tf

from ..data.batches import Batches
from ..data.fingerprint import fingerprint_of
from ..data.position import check_same_data, iterator_at, position_of, seeds_in


class DatasetSource:
    """A `tf.data.Dataset`, of which an epoch is one pass, a part or several.

    It resumes by its saved iterator or, where TensorFlow cannot save that, by reading up to the position
    again; and by how many seeds its shuffles had drawn, which decide the order of later passes.

    Args:
        data: the dataset, which the user calls `name`.
        steps: batches in an epoch where that is not one pass; None where it is.
        length: of a pass; None if unknown.
        keep: whether `position` is called.
    """

    iterator: Any = None  # what is being read

    def __init__(
        self, data: tf.data.Dataset, steps: int | None, length: int | None, name: str, keep: bool
    ) -> None:
        self._data = data
        self._rolls_over = steps is not None
        self._steps = steps or length
        self._length = length
        self._name = name
        self._passes = self._ran = 0  # how many were begun, and how many batches of this one have run
        self._read_ahead = False
        self._keep = keep
        self._seeds_before: list[Any] | None = None  # as this pass began; None if they are not known

    @property
    def at_start(self) -> bool:
        """Whether nothing of this pass has run: if it has no batch either, there is no data."""
        return self._ran == 0

    @property
    def ended(self) -> bool:
        """Whether this pass has no batch left, as far as the length tells; else only reading does."""
        return self._ran == self._length

    def start_epoch(self, number: int, done: int) -> None:
        """Goes to batch `done` of an epoch, unless `resume` or the epoch before has gone there."""
        if self.iterator is None if self._rolls_over else not done:
            self.next_pass()

    def next_pass(self) -> None:
        """Begins the data anew."""
        if self._keep:
            self._seeds_before = seeds_in(self._data).get("seeds")
        self.iterator, self._passes, self._ran = iter(self._data), self._passes + 1, 0

    def next_batch(self) -> tf.experimental.Optional:
        """Reads a batch for a step that is yet to run."""
        self._read_ahead = True
        return self.iterator.get_next_as_optional()

    def count(self, batches: int) -> None:
        """Is told how many batches have run."""
        self._ran += batches
        self._read_ahead = False

    def position(self, done: int) -> dict[str, Any]:
        """Where the next batch is after `done` of an epoch, as JSON can hold it."""
        place = {"first": 0, "passes": self._passes, "read": self._ran, "in_pass": self._in_a_pass(done)}
        seeds = {"seeds_before": self._seeds_before, **seeds_in(self._data)}
        return {"kind": "dataset", "likeness": fingerprint_of(self._data), **place, **seeds}

    def iterator_to_save(self, done: int) -> tf.data.Iterator | None:
        """The iterator, if a checkpoint after `done` batches of an epoch needs it beside `position`."""
        # One that is a batch ahead is of no use.
        return self.iterator if self._in_a_pass(done) and not self._read_ahead else None

    def resume(self, position: dict[str, Any], done: int, path: str, iterator_path: str | None) -> None:
        """Goes to what `position` returned; the next epoch continues at its batch `done`.

        `iterator_path` is where `iterator_to_save` was saved; None if it was not. Raises ValueError, with the
        `path` of the checkpoint, if the data is not the same.
        """
        check_same_data(position, self._data, path, later_passes=True)
        self._passes, self._ran = position["passes"], position["read"]
        within = self._in_a_pass(done)
        self.iterator = iterator_at(self._data, self._name, position, within, iterator_path, path)
        self._seeds_before = position.get("seeds_before")

    def _in_a_pass(self, done: int) -> bool:
        """Whether a pass goes on after so many batches of an epoch."""
        return self._rolls_over or done not in (0, self._steps)

    def reset(self) -> None:
        """Has whoever reads the data next begin where this began."""


class BatchesSource:
    """A `Batches`, with the methods of `DatasetSource`.

    Where an epoch begins depends on its number alone, and not on what else was read, or by whom.

    Args:
        data: read from its `epoch` on, which is left at the first pass that was not begun.
        steps: batches in an epoch.
        evaluates: read the order of the first epoch again and again, and leave `data.epoch` as it is.
    """

    at_start = False  # a `Batches` is never empty

    def __init__(self, data: Batches, steps: int, evaluates: bool) -> None:
        self._data = data
        self._steps = steps
        self._evaluates = evaluates
        self._found = self._first = data.epoch  # in a run that resumes, the first may be another
        self.iterator = data.iterator()

    @property
    def ended(self) -> bool:
        return not self.iterator.remaining

    def start_epoch(self, number: int, done: int) -> None:
        batch = 0 if self._evaluates else self._first * len(self._data) + number * self._steps + done
        epoch, position = divmod(batch, len(self._data))
        if done and not position:
            epoch, position = epoch - 1, len(self._data)  # the end of the pass that was being read
        self._read(epoch, position)

    def next_pass(self) -> None:
        self._read(0 if self._evaluates else self.iterator.epoch + 1, 0)

    def _read(self, epoch: int, position: int) -> None:
        self.iterator = self._data.iterator(epoch, position)
        if not self._evaluates:
            self._data.epoch = epoch + 1  # for whoever reads the data next

    def count(self, batches: int) -> None:
        pass  # the iterator counts

    def position(self, done: int) -> dict[str, Any]:
        return {**position_of(self.iterator), "first": self._first}

    def iterator_to_save(self, done: int) -> None:
        return None

    def resume(self, position: dict[str, Any], done: int, path: str, iterator_path: str | None) -> None:
        check_same_data(position, self._data, path)
        self._first = position["first"]
        self._data.epoch = position["epoch"] + 1

    def reset(self) -> None:
        self._data.epoch = self._found


Source: TypeAlias = DatasetSource | BatchesSource
