"""The range test beside its formulas, and the arguments that it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.optim import lr_range_test

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype("float32")
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype("int64")


def ones(count=4, size=2):
    return loops.Batches(np.ones((count, 1)), None, size)


# The curve.


def test_the_curve_of_a_quadratic_by_hand(quadratic):
    curvature, points = 4.0, 100
    curve = lr_range_test(quadratic(curvature), ones(), 1e-4, 10.0, points)
    weight, mean, best = 1.0, 0.0, np.inf
    losses, smoothed = [], []
    for step, rate in enumerate(1e-4 * 1e5 ** (np.arange(points) / (points - 1))):
        losses.append(curvature / 2 * weight**2)
        weight -= rate * curvature * weight
        # Gugger, "How do you find a good learning rate": the loop of his notebook.
        mean = 0.98 * mean + 0.02 * losses[-1]
        smoothed.append(mean / (1 - 0.98 ** (step + 1)))
        if step > 0 and smoothed[-1] > 4 * best:
            break
        best = min(best, smoothed[-1])
    assert 10 < len(losses) < points  # it diverged, and the test ended there
    np.testing.assert_allclose(curve.losses, losses, rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(curve.smoothed, smoothed, rtol=1e-3)
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-4, 10.0, points)[: len(losses)])


@pytest.mark.parametrize("curvature", [0.1, 1.0, 100.0])
def test_the_suggestion_scales_with_the_best_rate(quadratic, curvature):
    # A step at 1 / curvature lands in the minimum; from 2 / curvature on it diverges.
    curve = lr_range_test(quadratic(curvature), ones(), 1e-4 / curvature, 10 / curvature)
    assert 0.02 / curvature < curve.suggestion < 1 / curvature
    assert curve.suggestion in curve.rates


def test_a_range_without_divergence_runs_to_its_end(quadratic):
    curve = lr_range_test(quadratic(), ones(), 1e-5, 1e-2, steps=20)
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) == 20
    assert (curve.rates[0], curve.rates[-1]) == pytest.approx((1e-5, 1e-2))
    assert curve.rates.dtype == curve.losses.dtype == curve.smoothed.dtype == np.float64


def test_each_rate_is_the_one_that_its_batch_trains_at(quadratic):
    rates = []

    class Watched(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            tf.py_function(lambda rate: rates.append(float(rate)), [learning_rate], [])
            super().update_step(gradient, variable, learning_rate)

    curve = lr_range_test(quadratic(optimizer=Watched(0.5)), ones(), 1e-3, 1e-1, 7)
    np.testing.assert_allclose(rates, np.geomspace(1e-3, 1e-1, 7), rtol=1e-6)
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-3, 1e-1, 7))


def test_a_loss_below_zero_is_no_divergence(quadratic):
    # Four times the best of -1 is -4, and every loss is above that.
    model = quadratic().model
    step = loops.TrainStep(model, lambda model, x: tf.reduce_sum(model.weights[0] ** 2 + 0 * x) - 3, "sgd")
    curve = lr_range_test(step, ones(), 1e-4, 1e-1, 20)
    assert len(curve.losses) == 20 and curve.losses.max() < 0


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip", "ignore"])
def test_ends_where_the_loss_is_not_finite(busy_step, nothing_changes, on_nonfinite):
    step = busy_step(keras.optimizers.SGD(0.1), on_nonfinite=on_nonfinite)
    x = np.concatenate([X[:5], np.full((1, 6), np.nan, "float32")])
    data = loops.Batches(x, Y[:6], 1, shuffle=False)
    with nothing_changes(step):
        curve = lr_range_test(step, data, 1e-6, 1e-3, 20)
    assert len(curve.losses) == 5 and np.isfinite(curve.losses).all()


def test_a_loss_that_is_never_finite(busy_step, nothing_changes):
    x = np.full((4, 6), np.nan, "float32")
    step = busy_step(keras.optimizers.SGD(0.1))
    with nothing_changes(step), pytest.raises(loops.NonFiniteError, match="inputs of this batch hold"):
        lr_range_test(step, loops.Batches(x, Y[:4], 2))
    step = busy_step(keras.optimizers.SGD(0.1), on_nonfinite="ignore")
    with nothing_changes(step), pytest.raises(ValueError, match="not finite at the rate 1e-07 already"):
        lr_range_test(step, loops.Batches(x, Y[:4], 2))


# The arguments.

REFUSED = [
    ({"lowest": 0.0}, ValueError, "`lowest` must be a finite number above 0, got 0"),
    ({"lowest": float("nan")}, ValueError, "`lowest` must be a finite number above 0, got nan"),
    ({"lowest": True}, TypeError, "`lowest` must be a number above 0, got True"),
    ({"highest": float("inf")}, ValueError, "`highest` must be a finite number above 0, got inf"),
    ({"lowest": 0.1, "highest": 0.1}, ValueError, "`lowest` 0.1 must be below `highest` 0.1"),
    ({"lowest": 0.2, "highest": 0.1}, ValueError, "`lowest` 0.2 must be below `highest` 0.1"),
    ({"steps": 2}, ValueError, "`steps` must be at least 3, got 2"),
    ({"steps": 10.0}, TypeError, "`steps` must be a whole number of at least 3, got 10.0"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_bad_arguments_are_refused(quadratic, arguments, error, message):
    with pytest.raises(error, match=message):
        lr_range_test(quadratic(), ones(), **arguments)


@pytest.mark.parametrize("bad", [None, "step", keras.optimizers.SGD(0.1)])
def test_a_step_that_is_none(bad):
    with pytest.raises(TypeError, match="`step` must be a training step, such as a `loops.TrainStep`"):
        lr_range_test(bad, ones())


@pytest.mark.parametrize(
    "rate", [keras.optimizers.schedules.CosineDecay(0.1, 10), lambda: 0.1], ids=["schedule", "function"]
)
@pytest.mark.parametrize("wrap", [lambda o: o, keras.optimizers.LossScaleOptimizer], ids=["bare", "scaled"])
def test_a_rate_that_cannot_be_set(quadratic, rate, wrap):
    step = quadratic(optimizer=wrap(keras.optimizers.SGD(rate)))
    with pytest.raises(TypeError, match="`learning_rate` cannot be set, since it is a schedule or a func"):
        lr_range_test(step, ones())
