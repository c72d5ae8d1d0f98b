"""Running a step on one epoch of data after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from ...optim.common.arguments import whole_number
from ..data.batches import Batches, Data
from ..data.position import seeds_in, set_seeds
from ..device.steps_per_call import StepsPerCall
from ..distribute.same_order import check_same_order
from ..loss.records import Records
from ..step.base_step import BaseStep
from ..update.nonfinite import NonFiniteError
from .sources import BatchesSource, DatasetSource, Source


class EpochReader:
    """Gives a step its batches, epoch by epoch.

    Without `steps`, an epoch is one pass over the data. With it, an epoch is that many batches; it continues
    where the epoch before stopped, and begins the data anew when it ends.

        source.start_epoch
        until the epoch has its batches, or the pass is over:
            one call of the step on as many batches as `steps_per_call`, the callbacks and the epoch allow
            source.next_pass, if the data ended and the epoch goes on

    Args:
        data: a `Batches` or a `tf.data.Dataset`.
        steps: batches in an epoch, or None.
        name, steps_name: of the caller's arguments for these, for errors; None if it has no `steps`.
        keep: whether `position` is called.
        validation: what is evaluated on beside it, which is to be shuffled as before after a `resume`.
        evaluates: the data is only evaluated on: a `Batches` is read in the order of its first epoch, and its
            `epoch` is left as it is.

    Attributes:
        steps: batches in an epoch; None where only reading the data tells.
        source: the data, and where reading stands in it.
        unfinished: what the steps of a call recorded before it raised; None if no call did.
        nonfinite: the error by which the step ended reading, and no other in a hook; None if it did not.

    Raises:
        TypeError: `data` is something else, or `steps` no whole number.
        ValueError: endless data without `steps`, empty data, or `steps` below 1.
    """

    def __init__(
        self,
        data: Batches | tf.data.Dataset,
        steps: int | None = None,
        *,
        name: str = "data",
        steps_name: str | None = "steps_per_epoch",
        keep: bool = False,
        validation: Data | None = None,
        evaluates: bool = False,
    ) -> None:
        if not isinstance(data, (Batches, tf.data.Dataset)):
            raise TypeError(
                f"`{name}` must be a `loops.Batches` or a `tf.data.Dataset`, not {type(data).__name__}: wrap "
                "arrays as `loops.Batches(x, y, batch_size)`."
            )
        steps = None if steps is None else whole_number(str(steps_name), steps, at_least=1)
        self._name = name
        self._data = data
        self._validation = validation
        self._one_pass = steps is None
        self._unchecked = True  # whether several workers read it in the same order
        self.source: Source
        self.steps: int | None
        if isinstance(data, Batches):
            self.steps = steps or len(data)
            self.source = BatchesSource(data, self.steps, evaluates)
        else:
            cardinality = int(data.cardinality())
            if cardinality == tf.data.INFINITE_CARDINALITY and steps is None:
                way_out = f"`{steps_name}=...`" if steps_name else "`dataset.take(batches)`"
                raise ValueError(f"`{name}` has no end: say how many batches to read, {way_out}.")
            if cardinality == 0:
                raise self._empty()
            length = cardinality if cardinality > 0 else None
            self.steps = steps or length
            self.source = DatasetSource(data, steps, length, name, keep)
        self.unfinished: Records | None = None
        self.nonfinite: NonFiniteError | None = None

    def epoch(
        self,
        number: int,
        step: BaseStep,
        steps_per_call: StepsPerCall,
        before: Callable[[], None] | None = None,
        steps_allowed: Callable[[], int | None] = lambda: None,
        done: int = 0,
    ) -> Iterator[Records]:
        """Runs one epoch, yielding what each call recorded; ValueError if the data turns out to be empty.

        Args:
            number: of the epoch in the run, from 0.
            step: runs the batches, as many a call as `steps_per_call` says, which is told how long it took.
            before: called before each batch, once it is known that there is one; a call must be one step.
            steps_allowed: how many the next call may run at most; None for any number.
            done: how many of the epoch's batches ran before a checkpoint.
        """
        if isinstance(self._data, tf.data.Dataset) and self._unchecked:
            check_same_order(self._data, self._name, step.mean_over_workers)
            self._unchecked = False
        self.source.start_epoch(number, done)
        announced = False
        while self.steps is None or done < self.steps:
            left = [limit for limit in (self.steps and self.steps - done, steps_allowed()) if limit]
            wanted = steps_per_call.next_call(min(left, default=None))  # of equal length up to a limit
            records: Records | None
            if before is not None and self.steps is None:
                records = self._run_one(step, before)
            else:
                if before is not None and not announced:
                    before()
                announced = True
                with steps_per_call.timing() as tell_steps:
                    records = self._run(step, wanted)
                    tell_steps(len(records))
            ran = 0 if records is None else len(records)
            done += ran
            if ran < wanted or self.source.ended:
                step.end_of_data()
            if records is not None and ran:
                announced = False
                yield records
            if ran < wanted:
                if self._one_pass:
                    break
                if not ran and self.source.at_start:
                    raise self._empty()
                self.source.next_pass()
        if not done:
            raise self._empty()

    def position(self, done: int) -> dict[str, Any]:
        """Where the next batch is after `done` of an epoch, as JSON can hold it."""
        return {**self.source.position(done), "validation": seeds_in(self._validation)}

    def resume(self, position: dict[str, Any], done: int, path: str, iterator_path: str | None) -> None:
        """Goes to what `position` returned (see `DatasetSource.resume`)."""
        self.source.resume(position, done, path, iterator_path)
        set_seeds(self._validation, position.get("validation", {}))

    def _run(self, step: BaseStep, steps: int) -> Records:
        try:
            records = step.run_records(self.source.iterator, steps)
        except NonFiniteError as error:
            self.nonfinite, self.unfinished = error, error.records
            self.source.count(len(self.unfinished or ()))
            raise
        self.source.count(len(records))
        return records

    def _run_one(self, step: BaseStep, before: Callable[[], None]) -> Records | None:
        """Runs a batch of a dataset whose end only reading tells; returns None there.

        The batch is read before the hook is called: `fit` calls none for a batch that is not there.
        """
        assert isinstance(self.source, DatasetSource)
        batch = self.source.next_batch()
        if not batch.has_value():
            return None
        before()
        try:
            records = step.run_batch(batch.get_value(), self.source.iterator.element_spec)
        except NonFiniteError as error:
            self.nonfinite = error
            raise
        self.source.count(1)
        return records

    def _empty(self) -> ValueError:
        return ValueError(f"`{self._name}` is empty: there is no batch to run.")
