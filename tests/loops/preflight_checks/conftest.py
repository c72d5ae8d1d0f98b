"""Small networks and data for the checks: three classes that eight numbers tell apart."""

from __future__ import annotations

import time
import warnings
from typing import Any

import keras
import numpy as np
import pytest

from gradloop import loops
from gradloop.loops.preflight_checks.evidence import Evidence
from gradloop.loops.preflight_checks.preflight import CHECKS, run_checks
from gradloop.loops.preflight_checks.probe import Probe, last_operation
from gradloop.loops.preflight_checks.rates import trained_groups
from gradloop.loops.preflight_checks.sample import sample_from
from gradloop.loops.preflight_checks.trial import Trial

RANDOM = np.random.RandomState(0)
SPARSE = "sparse_categorical_crossentropy"


class Lab:
    """Inputs, `y` of the classes, `hot` of them one-hot, `yes` of a yes or no, `numbers` of a regression."""

    y = RANDOM.randint(0, 3, 96)
    x = (RANDOM.randn(3, 8)[y] + 0.3 * RANDOM.randn(96, 8)).astype("float32")
    hot = np.eye(3, dtype="float32")[y]
    yes = (y[:, None] == 1).astype("float32")
    numbers = RANDOM.randn(96, 1).astype("float32")

    def net(self, units: int = 3, activation: Any = "softmax", between: Any = ()) -> keras.Model:
        body, head = keras.layers.Dense(16, "relu", name="body"), keras.layers.Dense(
            units, activation, name="head"
        )
        return keras.Sequential([keras.Input((8,)), body, *between, head])

    def step(
        self, model: Any = None, loss: Any = SPARSE, optimizer: Any = None, **options: Any
    ) -> loops.TrainStep:
        optimizer = keras.optimizers.Adam(1e-3) if optimizer is None else optimizer
        return loops.TrainStep(self.net() if model is None else model, loss, optimizer, **options)

    def data(self, x: Any = None, y: Any = None, size: int = 32, **options: Any) -> loops.Batches:
        x, y = self.x if x is None else x, self.y if y is None else y
        return loops.Batches(x, y, size, **options)

    def report(
        self, step: Any = None, data: Any = None, trial: Trial | None = None, overfit: Any = None
    ) -> Any:
        """The report of one pass without steps, which needs no trace; `trial` stands for the steps."""
        step, data = step or self.step(), data or self.data()
        with warnings.catch_warnings(), sample_from(data, 8) as sample:
            warnings.simplefilter("ignore")  # as `preflight` does
            first_pass = Probe(step, sample.batches, whole=False)
            last, groups = last_operation(step, sample.batches[0]), trained_groups(step)
        trial = trial or Trial({group.name: [1e-3] for group in groups}, [1.0] * 20, set(), [], [], None)
        report = run_checks(
            Evidence(step, sample, first_pass, last, groups, trial, None, overfit), time.perf_counter()
        )
        check_complete(report)
        return report


def check_complete(report: Any) -> None:
    """Every check is in exactly one of the three."""
    reported = {finding.name for finding in report.findings}, set(report.passed), set(report.left_out)
    assert set().union(*reported) >= set(CHECKS) and sum(map(len, reported)) == len(set().union(*reported))
    assert report.ok == (not report.findings)


def names(report: Any) -> list[str]:
    return [finding.name for finding in report.findings]


def message(report: Any, name: str) -> str:
    """What the finding of this name says."""
    return str(next(finding.message for finding in report.findings if finding.name == name))


@pytest.fixture
def lab() -> Lab:
    return Lab()
