"""What the steps of a call record, a row each.

A step writes into a row of a variable rather than of a loop value: if the loop ends early (the end of the
data, a NaN), the rows written until then can still be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array
from ..support.scalars import Columns

# More steps than this make several calls.
CAPACITY = 4096
# Calls are numbered in float32, which counts this far.
LAST_CALL = 2**24


class Rows(NamedTuple):
    """What some steps recorded.

    Attributes:
        numbers: a row for each, float32, (steps, width + columns).
        columns: what the last numbers of a row are of.
    """

    numbers: Array
    columns: Columns = ()


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, of one width; NaN where a step has no such column."""
    columns = tuple(dict.fromkeys(column for part in parts for column in part.columns))

    def filled(part: Rows) -> Array:
        if part.columns == columns:
            return part.numbers
        width = part.numbers.shape[1] - len(part.columns)
        found = np.full((len(part.numbers), width + len(columns)), np.nan, np.float32)
        found[:, [*range(width), *(width + columns.index(c) for c in part.columns)]] = part.numbers
        return found

    return Rows(np.concatenate([filled(part) for part in parts]), columns)


class RowBuffer:
    """`CAPACITY` rows of float32, and which of them the last call wrote.

    Args:
        width: of a row, without columns.
        columns: returns those of the step that was traced last; while functions run eagerly, that ran last.
    """

    def __init__(self, width: int, columns: Callable[[], Columns]) -> None:
        self._width = width
        self._columns = columns
        # By the width of a row: a step that records other scalars is another trace, and so another call.
        self._rows: dict[int, tf.Variable] = {}
        self._traced: WeakKeyDictionary[Callable[..., object], Columns] = WeakKeyDictionary()
        self._eager: list[Rows] = []
        self._call = 0

    def next_call(self) -> int:
        """Begins a call; returns its number, which each row that it writes must end in."""
        self._call = self._call % LAST_CALL + 1
        self._eager = [Rows(np.zeros((0, self._width), np.float32))]
        return self._call

    def write(self, step: tf.Tensor, row: tf.Tensor) -> None:
        """Writes what a step of the call recorded, with the call's number, the steps counted from 0."""
        if tf.executing_eagerly():
            self._eager.append(Rows(row.numpy()[None, :-1], self._columns()))
        else:
            self._variable(row.shape[0]).scatter_update(tf.IndexedSlices(row, step))

    def read(self, function: Callable[..., object]) -> Rows:
        """Returns what the steps of the last call recorded, which was one of `function`."""
        if tf.config.functions_run_eagerly():
            return joined(self._eager)
        columns = self.columns_of(function)
        rows = self._variable(self._width + len(columns) + 1).value().numpy()  # in one operation
        written = rows[:, -1] == self._call
        ran = len(written) if written.all() else int(np.argmin(written))
        return Rows(rows[:ran, :-1], columns)

    def columns_of(self, function: Callable[..., object]) -> Columns:
        """The columns of the steps of a function: ask after each call, since the first one has traced it."""
        if tf.config.functions_run_eagerly():
            return self._columns()
        return self._traced.setdefault(function, self._columns())

    def _variable(self, width: int) -> tf.Variable:
        """The rows of so many numbers, the last of which is that of the call that wrote the row."""
        if width not in self._rows:

            def make() -> tf.Variable:
                return tf.Variable(tf.zeros([CAPACITY, width]), trainable=False)

            # Another thread is outside of the function being traced and of any strategy's scope.
            with ThreadPoolExecutor(1) as thread:
                self._rows[width] = thread.submit(make).result()
        return self._rows[width]
