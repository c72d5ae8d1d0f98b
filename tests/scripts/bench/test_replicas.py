"""The benchmark of steps on replicas: that it runs and what it tells, not how fast it is."""

import sys

import pytest

from bench import replicas


def case(ours, bare):
    return replicas.Case("softmax", "2 replicas", ours, bare, 1, 1)


def test_report():
    text = replicas.report([case([10.0, 21.0, 30.0], [10.0, 20.0, 30.0]), case([20.0], [10.0])])
    first, second = [line for line in text.splitlines() if line.startswith("softmax")]
    assert first.split() == ["softmax", "2", "replicas", "21", "20", "1.00", "met", "1", "1"]
    assert "2.00" in second and "missed" in second


@pytest.mark.long  # `test_workers.py` has a tiny run of the whole
def test_two_replicas():
    found = replicas.measure(sys.executable, "softmax", 2, 1)
    assert (found.network, found.where, found.reductions, found.traces) == ("softmax", "2 replicas", 1, 1)
    assert len(found.ours) == len(found.bare) == 1 and min(found.ours + found.bare) > 0


@pytest.mark.long
def test_two_workers():
    found = replicas.measure_workers(sys.executable, "softmax", 1)
    assert (found.where, found.reductions, found.traces) == ("2 workers", None, 1)


def test_says_why_it_failed():
    with pytest.raises(RuntimeError, match="KeyError: 'perceptron'"):
        replicas.measure(sys.executable, "perceptron", 1, 1)
