"""One epoch's worth of batches after another, from `Batches` or a `tf.data.Dataset`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ..data.batches import Batches, BatchIterator
from ..data.position import check_same_data, position_of, read_iterator
from ..device.steps_per_call import StepsPerCall
from ..distribute.sharding import check_same_order
from ..loss.records import Records
from ..step.base_step import BaseStep
from ..update.nonfinite import NonFiniteError


class EpochReader:
    """Gives a step its batches, epoch by epoch.

    Without `steps`, an epoch is one pass over the data. With it, an epoch is that many batches, taken on
    from where the epoch before it stopped, and the data starts again when it ends.

    In a `Batches`, the place where an epoch begins is a function of the epoch's number and of
    `Batches.epoch` when the feed was made: it does not matter which epochs were read before, or by whom.

    Args:
        data: a `Batches` or a `tf.data.Dataset`.
        steps: batches in an epoch, or None.
        name: what the caller calls `data`, for errors.
        steps_name: what it calls `steps`; None if it has no such argument.
        evaluates: the data is only evaluated on: a `Batches` is read in the order of its first epoch and
            stays where it is, so training on the same one goes on as if nothing had been read.

    Attributes:
        steps: batches in an epoch; None where only reading the data tells.
        unfinished: what a call recorded that then raised; None if none did.

    Raises:
        TypeError: `data` is something else.
        ValueError: endless data without `steps`, empty data, or `steps` below 1.
    """

    def __init__(
        self,
        data: Any,
        steps: int | None = None,
        *,
        name: str = "data",
        steps_name: str | None = "steps_per_epoch",
        evaluates: bool = False,
    ) -> None:
        if not isinstance(data, (Batches, tf.data.Dataset)):
            raise TypeError(
                f"`{name}` must be a `loops.Batches` or a `tf.data.Dataset`, not {type(data).__name__}: wrap "
                "arrays as `loops.Batches(x, y, batch_size)`."
            )
        whole = isinstance(steps, (int, np.integer)) and not isinstance(steps, bool)
        if steps is not None and not (whole and steps >= 1):
            raise ValueError(f"`{steps_name}` must be a whole number of at least 1, not {steps!r}.")
        length: int | None
        if isinstance(data, Batches):
            length = len(data)
        else:
            length = int(data.cardinality())
            if length == tf.data.INFINITE_CARDINALITY and steps is None:
                way_out = f"`{steps_name}=...`" if steps_name else "`dataset.take(batches)`"
                raise ValueError(f"`{name}` has no end: say how many batches to read, {way_out}.")
            length = length if length >= 0 else None
        self._name = name
        if length == 0:
            raise self._empty()
        self._data = data
        # The epoch of a `Batches` that the run begins with; in one that goes on, the data may be elsewhere.
        self._first = self._found = data.epoch if isinstance(data, Batches) else 0
        self._evaluates = evaluates
        self._endless = steps is not None
        self._iterator: Any = None
        # Of a dataset: how often it was begun, how many batches of this time were trained on, and whether
        # one more was read.
        self._passes = self._read = 0
        self._ahead = False
        self.unfinished: Records | None = None
        self.steps = length if steps is None else int(steps)

    def epoch(
        self,
        number: int,
        step: BaseStep,
        pace: StepsPerCall,
        before: Callable[[], None] | None = None,
        allowed: Callable[[], int | None] = lambda: None,
        done: int = 0,
    ) -> Iterator[Records]:
        """Runs one epoch, yielding what each call recorded.

        Args:
            number: of the epoch in the run, from 0.
            step: runs the batches.
            pace: says how many a call, and is told how long each took.
            before: called once before each call, when it is known that there is a batch; `pace` must be
                one step a call then.
            allowed: how many the next call may run at most; None for any number.
            done: how many of its batches ran already, where it goes on in its middle.

        Raises:
            ValueError: the data turned out to be empty.
        """
        if isinstance(self._data, tf.data.Dataset):
            check_same_order(step.strategy, self._data, self._name)
        fresh = self._begin(number, done)
        told = False
        while self.steps is None or done < self.steps:
            wanted = pace.next_call(None if self.steps is None else self.steps - done)
            wanted = min(wanted, allowed() or wanted)
            if before is not None and self.steps is None:
                # Only reading tells whether there is another batch.
                self._ahead = True
                batch = self._iterator.get_next_as_optional()
                if not batch.has_value():
                    break
                before()
                records = step.run_batch(batch.get_value(), self._iterator.element_spec)
                self._ahead = False
                done += 1
                self._read += 1
                yield records
                continue
            if before is not None and not told:
                before()
                told = True
            with pace.timing() as ran:
                records = self._run(step, wanted)
                ran(len(records))
            done += len(records)
            if len(records):
                told = False
                yield records
            if len(records) == wanted:
                fresh = False
                continue
            if not self._endless:
                break
            if fresh and not len(records):
                raise self._empty()
            self._iterator, fresh = self._next_pass(), True
        if not done:
            raise self._empty()

    def _run(self, step: BaseStep, steps: int) -> Records:
        try:
            records = step.run_records(self._iterator, steps)
        except (NonFiniteError, KeyboardInterrupt) as error:
            self.unfinished = getattr(error, "records", None)
            self._read += len(self.unfinished or ())
            raise
        self._read += len(records)
        return records

    def give_back(self) -> None:
        """Puts a `Batches` back to where it was when the feed was made."""
        if isinstance(self._data, Batches):
            self._data.epoch = self._found

    def iterator_to_keep(self, done: int) -> Any:
        """What is being read, if its place is not told by `place` alone; else None.

        Args:
            done: how many batches of the epoch have run.
        """
        # What a batch was read of that has not run, is read again.
        return self._iterator if self._within(done) and not self._ahead else None

    def place(self, missed: int = 0) -> dict[str, Any]:
        """Where reading stands, as JSON can hold it; for `go_to`, in this process or another.

        Args:
            missed: batches that the step has trained on without anything told of them.
        """
        own = {"first": self._first, "passes": self._passes, "read": self._read + missed}
        return {**position_of(self._iterator), **own}

    def go_to(self, place: dict[str, Any], done: int, path: str, kept: str | None) -> None:
        """Goes to where `place` was called; the epoch that comes next is to go on there.

        A dataset is begun as often as it was, which is what the seeds of its shuffles depend on. Where its
        iterator is not in a file, it is read again up to there. (TensorFlow forgets how often a shuffle was
        begun if that has given all its examples: then passes after the first are in another order.)

        Args:
            place: what `place` returned.
            done: how many batches of the epoch had run.
            path: of the checkpoint, for errors.
            kept: path of the iterator's file; None if there is none.

        Raises:
            ValueError: the data is not the same.
        """
        check_same_data(place, self._data, path)
        self._first = place["first"]
        if isinstance(self._data, Batches):
            self._data.epoch = place["epoch"] + 1  # as reading leaves it
            return
        within = self._within(done)
        # TensorFlow begins the dataset once more to read an iterator's file.
        kept = kept if within else None
        for _ in range(max(place["passes"] - (kept is not None), 1)):
            self._iterator = self._next_pass()
        if kept is not None:
            read_iterator(kept, self._iterator)
        elif within and sum(1 for _ in itertools.islice(self._iterator, place["read"])) < place["read"]:
            raise ValueError(
                f"`{self._name}` ends before the {place['read']} batches that the run of the checkpoint "
                f"{path!r} had read of it: pass the same data, or name another folder."
            )
        self._passes, self._read = place["passes"], place["read"]

    def _within(self, done: int) -> bool:
        """Whether a dataset is in the middle of a pass after so many batches of an epoch."""
        dataset = not isinstance(self._data, Batches)
        return dataset and (self._endless or done not in (0, self.steps))

    def _begin(self, number: int, done: int) -> bool:
        """Goes to where an epoch begins or goes on; returns whether there is nothing if there is no batch."""
        data = self._data
        if isinstance(data, Batches) and not self._evaluates:
            assert self.steps is not None
            place = self._first * len(data) + number * self.steps + done
            epoch, position = divmod(place, len(data))
            if done and not position:
                epoch, position = epoch - 1, len(data)  # the end of the pass that was being read
            self._iterator = self._leaving(data.iterator(epoch, position))
            return bool(self._iterator.remaining)
        elif self._iterator is None or not (self._endless or done):
            self._iterator = self._next_pass()
        else:
            return False
        return True

    def _next_pass(self) -> Any:
        if not isinstance(self._data, Batches):
            self._passes, self._read = self._passes + 1, 0
            return iter(self._data)
        if self._evaluates:
            return self._data.iterator()
        return self._leaving(self._data.iterator(self._iterator.epoch + 1))

    def _leaving(self, iterator: BatchIterator) -> BatchIterator:
        """Lets whoever reads the data next begin after the pass that `iterator` makes."""
        iterator.batches.epoch = iterator.epoch + 1
        return iterator

    def _empty(self) -> ValueError:
        return ValueError(f"`{self._name}` is empty: there is no batch to run.")
