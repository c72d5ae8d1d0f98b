"""The step for one choice of variables, against loops written by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.loss.loss_and_metrics import LossAndMetrics
from gradloop.loops.step.compiled_step import CompiledStep

pytestmark = pytest.mark.numbers

RANDOM = np.random.RandomState(0)
X = RANDOM.rand(12, 3).astype("float32")
Y = RANDOM.rand(12, 2).astype("float32")
X_BAD = np.where(np.arange(12)[:, None] == 5, np.nan, X).astype("float32")  # in the second batch of four


def model(batch_norm=True):
    keras.utils.set_random_seed(5)
    norm = [keras.layers.BatchNormalization(name="norm")] if batch_norm else []
    body, head = keras.layers.Dense(4, "tanh", name="body"), keras.layers.Dense(2, name="head")
    return keras.Sequential([keras.Input((3,)), body, *norm, head])


def select(network, variables=None, metrics=(), jit_compile=False, strategy=None, **options):
    update = loops.Update(keras.optimizers.SGD(0.5), variables or network.trainable_variables, **options)
    count = tf.Variable(0, dtype=tf.int64)
    return CompiledStep(
        network, LossAndMetrics(network, "mse", metrics), update, jit_compile, count, strategy
    )


def batches(x=X):
    return iter(loops.Batches(x, Y, 4, shuffle=False))


def nothing():
    pass


def by_hand(network, variables, numbers):
    """Plain gradient steps on batches of four; returns their losses."""
    losses = []
    for number in numbers:
        x, y = X[4 * number : 4 * number + 4], Y[4 * number : 4 * number + 4]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((network(x, training=True) - y) ** 2)
        for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables])):
            variable.assign_sub(0.5 * gradient)
        losses.append(float(loss))
    return losses


def assert_same(one, other):
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", [None, tf.distribute.OneDeviceStrategy("/cpu:0")], ids=["none", "one"])
def test_steps_are_those_of_a_tape(strategy):
    """Each row is the loss, the number of examples and what the metrics record."""
    with strategy.scope() if strategy else tf.name_scope(""):
        network, reference = model(), model()
        chosen = select(network, metrics=["mae"], strategy=strategy)
        rows = chosen.loop.run_many(batches(), 3, nothing)
    losses = by_hand(reference, reference.trainable_variables, range(3))
    np.testing.assert_allclose(rows[:, 0], losses, rtol=1e-5)
    assert rows[:, 1].tolist() == [4, 4, 4] and rows.shape == (3, 4)
    assert_same(network, reference)


def test_only_the_chosen_variables_train():
    network, reference = model(batch_norm=False), model(batch_norm=False)
    body = network.get_layer("body")
    select(network, [body.kernel]).loop.run_many(batches(), 3, nothing)
    by_hand(reference, [reference.get_layer("body").kernel], range(3))
    assert_same(network, reference)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_skipped_step_leaves_no_trace_and_counts_for_no_examples(jit_compile):
    network, reference = model(), model()
    metric = keras.metrics.MeanAbsoluteError()
    chosen = select(network, metrics=[metric], on_nonfinite="skip", jit_compile=jit_compile)
    rows = chosen.loop.run_many(batches(X_BAD), 3, nothing)
    assert np.isnan(rows[:, 0]).tolist() == [False, True, False]
    assert rows[:, 1].tolist() == [4, -1, 4]  # see `RunningMeans`
    by_hand(reference, reference.trainable_variables, [0, 2])
    assert_same(network, reference)  # moving statistics too
    assert np.isfinite(float(metric.result())) and float(metric.count) == 8


@pytest.mark.parametrize("jit_compile", [False, True])
def test_nothing_is_recorded_of_a_step_that_fails_and_its_state_can_be_put_back(jit_compile):
    network, reference = model(), model()
    metric = keras.metrics.MeanAbsoluteError()
    chosen = select(network, metrics=[metric], jit_compile=jit_compile)
    with pytest.raises(tf.errors.InvalidArgumentError, match="gradient of <.*body/kernel>"):
        chosen.loop.run_many(batches(X_BAD), 3, nothing)
    losses = by_hand(reference, reference.trainable_variables, [0])
    np.testing.assert_allclose(chosen.loop.rows[:, 0], losses, rtol=1e-5)
    # The failed step may have come to this before it ended, or not.
    network.get_layer("norm").moving_mean.assign([np.nan] * 4)
    metric.count.assign(8)
    chosen.state.restore()
    assert_same(network, reference)
    assert float(metric.count) == 4


@pytest.mark.parametrize(
    "options", [{}, {"jit_compile": True}, {"on_nonfinite": "skip"}, {"accumulate": 2}], ids=lambda o: str(o)
)
def test_steps_with_functions_inside_run_on_no_single_thread(monkeypatch, options):
    asked = []
    monkeypatch.setattr("gradloop.loops.step.compiled_step.suits_one_thread", lambda network: True)
    monkeypatch.setattr(
        "gradloop.loops.step.compiled_step.make_loop", lambda *args, **rest: asked.append(args[3])
    )
    select(model(), **options)
    assert asked == [not options]
