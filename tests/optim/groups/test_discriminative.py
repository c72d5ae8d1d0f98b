"""Rates by depth between two given ones, beside fastai's formula."""

import numpy as np
import pytest

from gradloop.optim import discriminative, partition
from tests.optim.groups.models import sequential


def even_mults(start, stop, n):
    """fastai's `even_mults`, which turns `slice(start, stop)` into a rate for each group."""
    if n == 1:
        return [stop]
    step = (stop / start) ** (1 / (n - 1))
    return [start * step**i for i in range(n)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_discriminative_has_fastais_rates(count):
    groups = discriminative(sequential(5), 1e-5, 3e-3, count)
    rates = [group.learning_rate for group in groups.values()]
    assert rates == pytest.approx(even_mults(1e-5, 3e-3, count), rel=1e-12)
    assert rates[-1] == 3e-3 and all(type(rate) is float for rate in rates)
    assert list(groups) == [f"depth_{run}" for run in range(count)]


def test_discriminative_splits_layers_evenly():
    model = sequential(8)
    plan = partition(model, discriminative(model, 1e-4, 1e-2))
    sizes = [len(members) // 2 for members in plan.members.values()]
    assert sizes == [len(part) for part in np.array_split(np.arange(8), 3)] == [3, 3, 2]
    assert list(plan.members["depth_1"])[::2] == ["fc3/kernel", "fc4/kernel", "fc5/kernel"]


def test_equal_rates_are_allowed():
    rates = [group.learning_rate for group in discriminative(sequential(), 1e-3, 1e-3, 2).values()]
    assert rates == [1e-3, 1e-3]
