"""What the steps of a call record, a row each.

A step writes into a row of a variable rather than of a loop value: if the loop ends early (the end of the
data, a NaN), the rows written until then can still be read.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from ...optim.common.types import Array

# More steps than this make several calls.
CAPACITY = 4096
# Calls are numbered in float32, which counts this far.
LAST_CALL = 2**24


class RowBuffer:
    """`CAPACITY` rows of float32, and which of them the last call wrote."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: tf.Variable | None = None
        self._call = 0

    def make(self) -> None:
        """Makes the variable, if there is none yet; outside of a TensorFlow function."""
        if self._rows is None:
            # The last column holds the number of the call that wrote the row. Another thread is outside of
            # any strategy's scope, so the variable belongs to none.
            with ThreadPoolExecutor(1) as thread:
                zeros = tf.zeros([CAPACITY, self._width + 1])
                self._rows = thread.submit(tf.Variable, zeros, trainable=False).result()

    def next_call(self) -> int:
        """Begins a call; returns its number, which each row that it writes must end in."""
        self._call = self._call % LAST_CALL + 1
        return self._call

    def write(self, step: tf.Tensor, row: tf.Tensor) -> None:
        """Writes what a step of the call recorded, (width + 1,), the steps counted from 0."""
        assert self._rows is not None
        self._rows.scatter_update(tf.IndexedSlices(row, step))

    def read(self) -> Array:
        """Returns what the steps of the last call recorded: (steps that ran, width)."""
        assert self._rows is not None
        rows = self._rows.numpy()
        written = rows[:, -1] == self._call
        return rows[: len(written) if written.all() else int(np.argmin(written)), :-1]
