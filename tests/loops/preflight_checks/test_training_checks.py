"""What steps did: the ratio of updates, errors, and whether a few examples are learned."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.preflight_checks.rates import trained_groups
from gradloop.loops.preflight_checks.sample import sample_from
from gradloop.loops.preflight_checks.trial import OverfitResult, Trial, try_steps

from .conftest import message, names


def trial(ratio, group="all"):
    return Trial({group: [ratio]}, [1.0] * 20, set(), [], [], None)


@pytest.mark.parametrize(
    ("ratio", "found"), [(1.1e-4, False), (0.9e-2, False), (0.9e-4, True), (1.1e-2, True)]
)
def test_the_bounds_of_update_ratios(lab, ratio, found):
    report = lab.report(trial=trial(ratio))
    assert names(report) == (["update_ratio"] if found else [])
    if found:
        advised = 1e-3 * (3e-3 if ratio > 1e-3 else 1e-3) / ratio
        assert f"a rate of about {advised:.1g}" in message(report, "update_ratio")


def test_much_is_not_too_much_while_the_loss_falls(lab):
    """So do wide layers under Adam at 1e-3, in the first steps."""
    falls = list(np.linspace(2.0, 1.0, 20))
    ratios = [0.05] * 8 + [0.02] * 12
    report = lab.report(trial=Trial({"all": ratios}, falls, set(), [], [], None))
    assert names(report) == [] and "by 0.02 of its weights" in report.passed["update_ratio"]
    report = lab.report(trial=Trial({"all": ratios}, falls[::-1], set(), [], [], None))
    assert names(report) == ["update_ratio"]
    # Weights that jump by as much as they are look calm later, being large.
    report = lab.report(trial=Trial({"all": [6.0, 0.6] + [0.03] * 18}, falls, set(), [], [], None))
    assert "by 0.6 of its weights" in message(report, "update_ratio")


def test_gradients_that_are_too_small_are_not_the_rate(lab):
    assert "no rate mends that" in message(lab.report(trial=trial(1e-9)), "update_ratio")
    head = lab.step(lab.net(between=[keras.layers.Dense(64)]), variables="head")
    assert "frozen gives it next to nothing" in lab.report(head, trial=trial(1e-9)).passed["update_ratio"]


def grouped(lab, **groups):
    model = lab.net()
    return lab.step(
        model, optimizer=optim.GroupedOptimizer(keras.optimizers.SGD(0.1), optim.partition(model, groups))
    )


def test_a_group_that_its_plan_slows_may_change_by_as_much_less(lab):
    step = grouped(lab, body=optim.Group("body", lr_scale=0.1), head=optim.Group("head"))
    ratios = {"body": [2e-5], "head": [1e-3]}
    assert names(lab.report(step, trial=Trial(ratios, [1.0] * 20, set(), [], [], None))) == []
    ratios = {"body": [0.5e-5], "head": [1e-3]}
    report = lab.report(step, trial=Trial(ratios, [1.0] * 20, set(), [], [], None))
    assert "a step changes 'body' by 5e-06 of its weights at the rate 0.01" in message(report, "update_ratio")


@pytest.mark.numbers
def test_ratios_are_those_of_numpy(lab, monkeypatch):
    """A linear network under SGD: the change of each group by hand, at the highest rate of its schedule."""
    monkeypatch.setattr("gradloop.loops.preflight_checks.trial._SECONDS", 60.0)  # however busy the machine is
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(4, name="body"), keras.layers.Dense(1, name="head")]
    )
    warmup = keras.optimizers.schedules.PolynomialDecay(0.0, 1000, 0.5)
    groups = {"body": optim.Group("body"), "head": optim.Group("head", learning_rate=0.02)}
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(warmup), optim.partition(model, groups))
    step = lab.step(model, "mse", optimizer)
    data = lab.data(y=lab.numbers, size=96, shuffle=False)
    body, bias, head, end = map(np.array, model.get_weights())
    wanted = {"body": [], "head": []}
    for number in range(20):
        hidden = lab.x @ body + bias
        error = 2 * (hidden @ head + end - lab.numbers) / 96
        rates = 0.5 * number / 1000, 0.02
        changes = lab.x.T @ (error @ head.T), (error @ head.T).sum(0), hidden.T @ error, error.sum(0)
        # Biases are zero at the start, and so left out.
        wanted["body"].append(0.5 * np.linalg.norm(changes[0]) / np.linalg.norm(body))
        wanted["head"].append(rates[1] * np.linalg.norm(changes[2]) / np.linalg.norm(head))
        body, bias = body - rates[0] * changes[0], bias - rates[0] * changes[1]
        head, end = head - rates[1] * changes[2], end - rates[1] * changes[3]
    with sample_from(data, 8) as sample:
        found = try_steps(step, sample, trained_groups(step))
    np.testing.assert_allclose(found.ratios["head"], wanted["head"], 1e-4)
    # At a rate of 0 the first step moved nothing.
    np.testing.assert_allclose(found.ratios["body"], wanted["body"][1:], 1e-4)


def test_what_a_plan_freezes_is_no_group(lab):
    step = grouped(lab, body=optim.Group("body", frozen=True), head=optim.Group("head"))
    assert [group.name for group in trained_groups(step)] == ["head"]


def test_the_highest_rate_of_schedules(lab):
    cosine = keras.optimizers.schedules.CosineDecay(0.0, 5000, warmup_target=0.1, warmup_steps=500)
    (group,) = trained_groups(lab.step(optimizer=keras.optimizers.SGD(cosine)))
    assert group.rate() == 0.0 and group.highest == pytest.approx(0.1, rel=0.2)
    (group,) = trained_groups(lab.step(optimizer=keras.optimizers.SGD(0.3)))
    assert group.rate() == group.highest == pytest.approx(0.3)


def overfit(last, steps=60):
    return OverfitResult(8, 1.0, last, steps, "Adam as given")


def test_a_network_that_cannot_overfit_a_few_examples(lab):
    assert names(lab.report(overfit=overfit(0.8))) == []
    assert "took their loss from 1 to 0.9" in message(lab.report(overfit=overfit(0.9)), "learned_by_heart")
    assert "60 steps on 8 examples" in message(lab.report(overfit=overfit(np.nan)), "learned_by_heart")
    head = lab.step(lab.net(between=[keras.layers.Dense(64)]), variables="head")
    assert "of the network are frozen" in lab.report(head, overfit=overfit(0.9)).left_out["learned_by_heart"]
    assert "too few to tell" in lab.report(overfit=overfit(0.9, steps=5)).left_out["learned_by_heart"]


def test_an_output_that_ignores_its_inputs_is_not_learned(lab, capsys):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(1, "softmax")])
    report = loops.preflight(lab.step(model, "mse"), lab.data(y=lab.numbers))
    assert "learned_by_heart" in names(report) and "outputs_and_loss" in names(report)


def test_a_step_that_raises_is_a_finding(lab, capsys):
    report = loops.preflight(lab.step(), lab.data(y=lab.y + 1))
    assert names(report) == ["step"]
    assert "LabelError: `y` holds the label 3" in message(report, "step")
    x = lab.x.copy()
    x[:, 0] = np.inf
    report = loops.preflight(lab.step(), lab.data(x))
    assert "NonFiniteError" in message(report, "step") and "finite_inputs" in names(report)
    report = lab.report(data=lab.data(lab.x[:, :5]))
    assert "incompatible with the layer" in message(report, "step") and "\x1b" not in message(report, "step")


def test_an_error_of_the_data_is_raised(lab):
    def fail(x, y):
        return tf.debugging.check_numerics(x / 0.0, "broken"), y

    data = tf.data.Dataset.from_tensor_slices((lab.x, lab.y)).map(fail).batch(8)
    with pytest.raises(tf.errors.InvalidArgumentError, match="broken"):
        loops.preflight(lab.step(), data)
