"""What steps recorded, and the means over it, which do not depend on the calls that recorded it."""

import json

import keras
import numpy as np
import pytest

from gradloop.loops.loss.metrics import StepMetric
from gradloop.loops.loss.records import Records, RunningMeans
from gradloop.loops.support.scalars import Column

pytestmark = pytest.mark.numbers


@pytest.mark.parametrize("splits", [(6,), (1, 5), (2, 2, 2), (1, 1, 1, 1, 1, 1)])
def test_means_do_not_depend_on_the_calls(splits):
    random = np.random.RandomState(0)
    losses, sizes = random.rand(6), np.array([8, 8, 8, 8, 8, 3])
    rows = np.stack([losses, sizes, random.rand(6), sizes], 1).astype("float32")
    step_metrics = [StepMetric("m", lambda y, p: p)]
    means, place = RunningMeans(step_metrics), 0
    assert means.result() == {}
    for split in splits:
        means.add(Records(rows[place : place + split], step_metrics))
        means.add(Records(rows[:0], step_metrics))
        place += split
        means, before = RunningMeans(step_metrics), means  # as a run that resumes goes on
        means.set_state(json.loads(json.dumps(before.state())))
    reference = keras.metrics.Mean()
    for loss, size in zip(losses, sizes):
        reference.update_state(loss, sample_weight=size)
    assert means.result()["loss"] == pytest.approx(float(reference.result()), rel=1e-6)
    assert means.result()["m"] == pytest.approx(rows[:, 2].sum() / sizes.sum(), rel=1e-6)


def test_no_weight_gives_zero_and_no_warning():
    step_metrics = [StepMetric("m", lambda y, p: p)]
    records = Records(np.array([[1.0, 2.0, 0.0, 0.0]], np.float32), step_metrics)
    assert len(records) == 1
    assert records.values()["m"].tolist() == [0.0]
    means = RunningMeans(step_metrics)
    means.add(records)
    assert means.result() == {"loss": 1.0, "m": 0.0}


def test_steps_that_were_skipped_are_in_no_mean():
    step_metrics, skipped = [StepMetric("m", lambda y, p: p)], [np.nan, -1.0, 0.0, 0.0]
    means = RunningMeans(step_metrics)
    means.add(Records(np.array([skipped], np.float32), step_metrics))
    assert np.isnan(list(means.result().values())).tolist() == [True, True]
    means.add(Records(np.array([skipped, [1.0, 2.0, 3.0, 2.0]], np.float32), step_metrics))
    assert means.result() == {"loss": 1.0, "m": 1.5}


def test_a_batch_that_is_masked_all_over_is_in_the_means_of_its_metrics():
    step_metrics, masked = [StepMetric("m", lambda y, p: p)], [0.0, 0.0, 6.0, 2.0]
    means = RunningMeans(step_metrics)
    means.add(Records(np.array([masked, [1.0, 2.0, 0.0, 2.0]], np.float32), step_metrics))
    assert means.result() == {"loss": 1.0, "m": 1.5}


def test_a_batch_without_examples_has_no_loss():
    means = RunningMeans([])
    means.add(Records(np.array([[np.nan, 0.0], [1.0, 2.0]], np.float32), []))
    assert means.result() == {"loss": 1.0}


def test_what_was_recorded():
    columns = (Column("a", "mean"), Column("b", "sum"), Column("c", "max"), Column("d", "max"))
    nan = np.nan
    steps = [
        [1.0, 8.0, 2.0, 2.0, -5.0, nan],
        [nan, -1.0, 7.0, 70.0, 70.0, 7.0],
        [1.0, 2.0, 4.0, nan, -3.0, nan],
    ]
    rows = np.array(steps, np.float32)
    first, means = Records(rows[:2], [], columns), RunningMeans([])
    assert {name: array.tolist() for name, array in first.values().items() if name != "loss"} == {
        "a": [2.0, 7.0], "b": [2.0, 70.0], "c": [-5.0, 70.0], "d": [pytest.approx(nan, nan_ok=True), 7.0]
    }  # fmt: skip
    means.add(first)
    # The last two in another order, as another trace may record them, and the run resumes.
    again = RunningMeans([])
    again.set_state(json.loads(json.dumps(means.state())))
    again.add(Records(rows[2:, [0, 1, 2, 3, 5, 4]], [], (*columns[:2], *columns[:1:-1])))
    # The second step was skipped, and each name has the mean, or the largest, of those that are no NaN.
    found = again.result()
    assert found.pop("d") != found.get("d") and found == {"loss": 1.0, "a": 3.0, "b": 2.0, "c": -3.0}


def test_a_checkpoint_of_before_there_was_anything_to_record():
    means = RunningMeans([])
    state = means.state()
    assert state.pop("recorded") == {}
    means.set_state(state)
    assert means.result() == {}
