"""Numbers that several networks take."""

import numpy as np
import pytest

from gradloop.models.common.arguments import dropout_rate, whole_number


def test_good_ones():
    assert whole_number("units", np.int64(1)) == 1
    assert type(whole_number("num_classes", 2, at_least=2)) is int
    assert dropout_rate(0) == 0.0


@pytest.mark.parametrize("value", [1, True, 2.0, "3", None])
def test_bad_counts(value):
    with pytest.raises(ValueError, match="`num_classes` must be an integer of at least 2"):
        whole_number("num_classes", value, at_least=2)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_bad_rates(value):
    with pytest.raises(ValueError, match="`dropout` is the share of units to drop"):
        dropout_rate(value)
