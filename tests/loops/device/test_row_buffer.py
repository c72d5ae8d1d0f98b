"""Rows of steps that recorded different scalars."""

import numpy as np

from gradloop.loops.device.row_buffer import Rows, joined
from gradloop.loops.support.scalars import Column

A, B = Column("a", "mean"), Column("b", "max")


def rows(width, *columns, steps=1):
    numbers = np.arange(steps * (width + len(columns)), dtype=np.float32)
    return Rows(numbers.reshape(steps, width + len(columns)), columns)


def test_steps_that_lack_a_column_have_nan():
    found = joined([rows(2), rows(2, A), rows(2, B, A, steps=2)])
    nan = np.nan
    assert found.columns == (A, B)
    right = [[0, 1, nan, nan], [0, 1, 2, nan], [0, 1, 3, 2], [4, 5, 7, 6]]
    np.testing.assert_array_equal(found.numbers, right)
    assert found.numbers.dtype == np.float32


def test_the_same_columns_are_one_after_another():
    one, none = rows(2, A, steps=2), rows(2, A, steps=0)
    found = joined([one, none, one])
    assert found.columns == (A,) and found.numbers.shape == (4, 3)
    np.testing.assert_array_equal(found.numbers, np.concatenate([one.numbers] * 2))
