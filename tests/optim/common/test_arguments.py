"""Numbers at the door."""

import numpy as np
import pytest

from gradloop.optim.common.arguments import real_number, whole_number


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.25), np.int64(1), np.array(0.5), np.array(1)])
def test_numbers_of_any_kind_are_floats(value):
    found = real_number("rate", value, at_least=0, at_most=1)
    assert type(found) is float and found == value


@pytest.mark.parametrize("value", [True, np.True_, np.array(True), "0.1", None, [1.0], np.ones(1)])
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match="`rate` must be a number at least 0, got"):
        real_number("rate", value, at_least=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.0, 10**400, -(10**400)])
def test_what_is_out_of_bounds(value):
    with pytest.raises(ValueError, match="`rate` must be a finite number at least 0 and below 1, got"):
        real_number("rate", value, at_least=0, below=1)


def test_bounds_that_are_left_out():
    with pytest.raises(ValueError, match="`rate` must be a finite number above 0, got 0"):
        real_number("rate", 0, above=0)


@pytest.mark.parametrize("value", [3, np.int32(3), np.array(3)])
def test_whole_numbers(value):
    assert type(whole_number("steps", value, at_least=1)) is int


@pytest.mark.parametrize(
    "value, error", [(0, ValueError), (1.0, TypeError), (True, TypeError), (np.array(1.0), TypeError)]
)
def test_what_is_no_whole_number_that_is_large_enough(value, error):
    with pytest.raises(error, match="`steps` must be .*at least 1, got"):
        whole_number("steps", value, at_least=1)
