"""`loops.record` in steps of one device; on replicas see `tests/loops/grid/record_cells.py`."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device.step_count import StepCount
from gradloop.loops.loss.loss_and_metrics import LossAndMetrics
from tests.values import assert_same, numbers

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(22, 3)).astype("float32"), RNG.normal(size=(22, 1)).astype("float32")


class Recording(keras.layers.Dense):
    """Records the mean of what it returns, and the largest."""

    def call(self, x, training=None):
        outputs = super().call(x)
        loops.record("layer", tf.reduce_mean(outputs))
        loops.record("largest", tf.reduce_max(outputs), reduce="max")
        return outputs


class RecordingLoss(keras.losses.Loss):
    def call(self, y, predictions):
        loops.record("keras loss", tf.reduce_mean(predictions - y))
        return tf.reduce_mean(tf.square(predictions - y), -1)


def error(y, predictions):
    loops.record("metric", tf.reduce_max(tf.abs(predictions - y)), "max")
    return tf.abs(predictions - y)[:, 0]


def squares(model, batch, training=True):
    outputs = model(batch[0], training=training)
    loops.record("total", tf.reduce_sum(outputs), reduce="sum")
    loops.record("number", 3)
    loops.record("array", np.float64(0.5))
    return loops.mean_loss(tf.square(outputs - batch[1])[:, 0])


def network(layer=Recording):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), layer(1, use_bias=False)])


def data(size=4):
    return loops.Batches(X, Y, size, shuffle=False)


def by_numpy(rate=0.1, size=4, examples=22):
    """What each step is to record, as gradient descent moves the kernel."""
    kernel, rows = network().get_weights()[0].astype("float64"), []
    for first in range(0, examples, size):
        x, y = X[first : first + size], Y[first : first + size]
        outputs = x @ kernel
        rows.append(
            [outputs.mean(), outputs.max(), (outputs - y).mean(), abs(outputs - y).max(), outputs.sum()]
        )
        kernel = kernel - rate * 2 * x.T @ (outputs - y) / len(x)
    return dict(zip(("layer", "largest", "keras loss", "metric", "total"), np.transpose(rows)))


def assert_right(found, right, *names):
    for name in names:
        np.testing.assert_allclose(found[name], right[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", ["arrays", "dataset", "calls", "xla", "eagerly"])
def test_a_keras_loss_a_layer_and_a_metric(kind):
    step = loops.TrainStep(network(), RecordingLoss(), keras.optimizers.SGD(0.1), metrics=[error],
                           jit_compile=kind == "xla")  # fmt: skip
    tf.config.run_functions_eagerly(kind == "eagerly")
    try:
        if kind == "calls":
            batches = [step(X[first : first + 4], Y[first : first + 4]) for first in range(0, 22, 4)]
            found = {name: [float(batch[name]) for batch in batches] for name in batches[0]}
        elif kind == "dataset":
            found = step.run(iter(tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)), 9)
        else:
            found = step.run(iter(data()), 9)
    finally:
        tf.config.run_functions_eagerly(False)
    assert [*found] == ["loss", "error", "layer", "largest", "keras loss", "metric"]
    assert_right(found, by_numpy(), "layer", "largest", "keras loss", "metric")
    assert step.traces == (0 if kind == "eagerly" else 1)


def test_a_loss_function_and_numbers():
    step = loops.TrainStep(network(), squares, keras.optimizers.SGD(0.1))
    found = step.run(iter(data()), 9)
    assert_right(found, by_numpy(), "layer", "largest", "total")
    assert found["number"].tolist() == [3] * 6 and found["array"].tolist() == [0.5] * 6


def test_an_evaluation():
    found = loops.EvalStep(network(), "mse", [error]).run(iter(data()), 9)
    assert_right(found, by_numpy(rate=0.0), "layer", "largest", "metric")


def test_accumulated_batches_have_a_value_each():
    step = loops.TrainStep(network(), squares, keras.optimizers.SGD(0.0), accumulate=4)
    assert_right(step.run(iter(data()), 9), by_numpy(rate=0.0), "layer", "total")


def test_a_layer_that_is_used_twice():
    inputs, layer = keras.Input((3,)), Recording(3, use_bias=False)
    model = keras.Model(inputs, layer(layer(inputs)))

    def loss(model, batch):
        outputs = model(batch[0], training=True)
        loops.record("sum", 2.0, "sum")
        loops.record("sum", tf.reduce_sum(outputs), "sum")
        return loops.mean_loss(outputs[:, 0])

    kernel = model.get_weights()[0]
    found = loops.TrainStep(model, loss, "sgd")(X, Y)
    first, second = X @ kernel, X @ kernel @ kernel
    right = {"layer": (first.mean() + second.mean()) / 2, "largest": max(first.max(), second.max())}
    assert_right(found, {**right, "sum": 2 + second.sum()}, "layer", "largest", "sum")


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.release)])
def test_training_gives_the_same_numbers_to_the_last_bit(jit_compile):
    found = []
    for layer in (Recording, keras.layers.Dense):
        step = loops.TrainStep(network(layer), "mse", "adam", jit_compile=jit_compile)
        losses = step.run(iter(data()), 9)["loss"]
        names = {name.rpartition("/")[2]: value for name, value in numbers(step.state()).items()}
        found.append({**names, "loss": losses, "traces": step.traces})
    assert_same(*found)


def test_a_step_that_records_nothing_has_the_graph_that_it_had(monkeypatch):
    def operations():
        step, found = loops.TrainStep(network(keras.layers.Dense), "mse", "sgd"), []
        get = step._loop()._traces.get
        step._loop()._traces.get = lambda *args, **options: found.append(get(*args, **options)) or found[-1]
        step.run(iter(data()), 2)
        graph = found[0].graph.as_graph_def()
        nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
        return sorted(node.op for node in nodes), len(found[0].inputs)

    found = operations()
    # Without the counter as a default step, and without anything collected.
    monkeypatch.setattr(StepCount, "default_summary_step", lambda self: contextlib.nullcontext())
    monkeypatch.setattr(LossAndMetrics, "__call__", LossAndMetrics._computed)
    monkeypatch.setattr(LossAndMetrics._computed, "__defaults__", (None, False))
    assert operations() == found


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_step_that_does_not_record_has_nan(eagerly):
    """A model that asks for the number of examples is traced for each, and the last batch has 2."""

    def loss(model, batch):
        outputs = tf.reshape(model(batch[0], training=True), [int(batch[0].shape[0]), 1])
        if batch[0].shape[0] == 4:
            loops.record("of four", tf.reduce_sum(outputs), "sum")
        else:
            loops.record("of others", tf.reduce_mean(outputs))
        return loops.mean_loss(tf.square(outputs - batch[1])[:, 0])

    step, right = loops.TrainStep(network(), loss, keras.optimizers.SGD(0.1)), by_numpy()
    tf.config.run_functions_eagerly(eagerly)
    try:
        found = step.run(iter(data()), 9)
        assert set(step(X[:4], Y[:4])) == {"loss", "layer", "largest", "of four"}
    finally:
        tf.config.run_functions_eagerly(False)
    assert_right(found, {"of four": [*right["total"][:5], np.nan]}, "of four")
    assert_right(found, {"of others": [np.nan] * 5 + [right["layer"][5]]}, "of others")
    assert_right(found, right, "layer", "largest")


def test_a_step_of_ones_own_returns_what_it_records():
    model = network()
    update = loops.Update(keras.optimizers.SGD(0.1), model.trainable_variables)

    @loops.replicated
    def step(x, y):
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            loss = loops.mean_loss((outputs - y)[:, 0] ** 2)
        update(tape.gradient(loss, update.variables))
        loops.record("total", tf.reduce_sum(outputs), "sum")
        return {"loss": loss}

    rows = [step(X[first : first + 4], Y[first : first + 4]) for first in range(0, 22, 4)]
    assert set(rows[0]) == {"loss", "layer", "largest", "total"}
    found = {name: [float(row[name]) for row in rows] for name in rows[0]}
    assert_right(found, by_numpy(), "layer", "largest", "total")


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda x: x, "'a' in a step that returns float, .* is added to the dict that a step returns: retu"),
        (lambda x: None, "'a' in a step that returns NoneType"),
        (
            lambda x: {"a": x},
            "'a', which is in the dict that the step returns: choose another, or leave it out",
        ),
    ],
)
def test_a_step_of_ones_own_that_has_no_place_for_it(returns, message):
    @loops.replicated
    def step(x):
        loops.record("a", x)
        return returns(x)

    with pytest.raises(ValueError, match=f"`record` was called with the name {message}"):
        step(1.0)


def test_a_part_of_a_step_gives_it_what_it_records():
    """A function under `replicated` in a loss function: the step has it, in training and in evaluation."""

    @loops.replicated
    def half(outputs):
        loops.record("half", tf.reduce_mean(outputs) / 2)
        return outputs / 2

    def loss(model, batch, training=True):
        return loops.mean_loss(half(model(batch[0], training=training)))

    model = network(keras.layers.Dense)
    right = float((X @ model.get_weights()[0]).mean()) / 2
    for step in (loops.EvalStep(model, loss), loops.TrainStep(model, loss, "sgd")):
        assert float(step(X)["half"]) == pytest.approx(right, rel=1e-5)


def test_a_count_of_the_run_is_taken():
    step = loops.TrainStep(network(), lambda model, batch: loops.record("skipped", 1.0), "sgd")
    with pytest.raises(
        ValueError, match="`name` 'skipped' is a count that `train` writes in the logs: choose"
    ):
        step(X, Y)


def test_a_name_of_a_metric_is_taken():
    step = loops.TrainStep(network(), lambda model, batch: loops.record("error", 1.0), "sgd", metrics=[error])
    with pytest.raises(ValueError, match="`name` 'error' is that of the loss or of a metric"):
        step(X, Y)
    assert int(step.batches_done) == 0
