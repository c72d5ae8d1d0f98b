"""What a forward pass writes, of whatever kind, is as it was after a step that was not taken."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.callbacks.run_callbacks import RunCallbacks
from gradloop.loops.training.evaluate import Validation

from .written_layers import BAD, KINDS, X, Y, model

pytestmark = pytest.mark.numbers


def train_step(network, on_nonfinite, metrics=()):
    """A `TrainStep`; returns it as a function of a batch, and the variables of metrics."""
    step = loops.TrainStep(
        network, "mse", keras.optimizers.SGD(0.1), on_nonfinite=on_nonfinite, metrics=metrics
    )
    return lambda x: step(x, Y)["loss"]


def own_step(network, on_nonfinite, metrics=()):
    """The same by parts."""
    update = loops.Update(keras.optimizers.SGD(0.1), network.trainable_variables, on_nonfinite=on_nonfinite)

    @loops.replicated
    def step(x):
        with tf.GradientTape() as tape:
            predictions = network(x, training=True)
            loss = loops.mean_loss((predictions - Y) ** 2, model=network)
        for metric in metrics:
            metric.update_state(Y, predictions)
        update(tape.gradient(loss, update.variables), loss)
        return loss

    return step


def written(network):
    """All that the layers of these models hold, tracked by Keras or not."""
    return [v.numpy() for v in loops.EvalStep(network, "mse").state().values()][:-1]


def bad_step(step):
    try:
        step(BAD)
    except loops.NonFiniteError:
        return


# Each kind of layer, and each way, in some of them; the other products on request.
FIRST = {("norm", "raise", own_step), ("rnn", "skip", train_step), ("spectral", "skip", own_step)}
FIRST |= {("codebook", "raise", train_step)}
CASES = [
    pytest.param(kind, how, make, marks=() if (kind, how, make) in FIRST else pytest.mark.long)
    for kind in KINDS
    for how in ("skip", "raise")
    for make in (train_step, own_step)
]


@pytest.mark.parametrize("kind, on_nonfinite, make", CASES)
def test_a_bad_batch_changes_nothing(kind, on_nonfinite, make):
    """The reference never saw it."""
    network, reference = model(kind), model(kind)
    step, other = make(network, on_nonfinite), make(reference, "ignore")
    assert float(step(X)) == float(other(X))
    before = written(network)
    bad_step(step)
    for left, right in zip(written(network), before, strict=True):
        np.testing.assert_array_equal(left, right)
    assert float(step(X)) == float(other(X)) and np.isfinite(float(step(X)))


def test_nothing_is_undone_where_nobody_looks():
    network = model("norm")
    own_step(network, "ignore")(BAD)
    assert np.isnan(network.layers[0].moving_mean.numpy()).any()


@pytest.mark.parametrize("make", [train_step, own_step])
def test_eagerly(make):
    tf.config.run_functions_eagerly(True)
    try:
        network = model("rnn")
        step = make(network, "raise")
        step(X)
        before = written(network)
        bad_step(step)
        for left, right in zip(written(network), before, strict=True):
            np.testing.assert_array_equal(left, right)
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("how", ["chosen", "frozen", "own"])
def test_a_weight_that_does_not_train_stays_where_its_layer_writes_it(how):
    network = model("spectral")
    spectral, head = network.layers
    before = [v.numpy() for v in (spectral.layer.kernel, spectral.vector_u)]
    if how == "frozen":
        spectral.trainable = False
    if how == "own":
        variables = head.trainable_variables
        update = loops.Update(keras.optimizers.SGD(0.1), variables)

        @loops.replicated
        def step(x):
            with tf.GradientTape() as tape:
                loss = loops.mean_loss((network(x, training=True) - Y) ** 2)
            return update(tape.gradient(loss, variables))

        step(X)
    else:
        step = loops.TrainStep(network, "mse", "sgd", variables="head" if how == "chosen" else None)
        outputs = network(X, training=False)
        loss = float(step(X, Y)["loss"])
        assert loss == pytest.approx(np.mean((outputs - Y) ** 2)), "it runs in inference mode"
        np.testing.assert_array_equal(spectral.vector_u.numpy(), before[1])
    np.testing.assert_array_equal(spectral.layer.kernel.numpy(), before[0])


def test_an_exact_rewind_of_what_keras_does_not_track():
    for kind in ("rnn", "codebook"):
        step = loops.TrainStep(model(kind), "mse", keras.optimizers.SGD(0.1))
        step(X, Y)
        before = {name: variable.numpy() for name, variable in step.state().items()}
        losses = [float(step(X, Y)["loss"]) for _ in range(2)]
        for name, variable in step.state().items():
            variable.assign(before[name])
        assert [float(step(X, Y)["loss"]) for _ in range(2)] == losses


@pytest.mark.parametrize("make", [train_step, own_step])
def test_metrics_keep_what_they_have_seen_of_good_batches(make):
    metrics = [keras.metrics.R2Score(name="r2"), keras.metrics.MeanSquaredError(name="mean")]
    step = make(model("norm"), "skip", metrics)
    step(X)
    before = [variable.numpy() for metric in metrics for variable in metric.variables]
    step(BAD)
    after = [variable.numpy() for metric in metrics for variable in metric.variables]
    assert len(after) == 7 and all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_validation_leaves_the_states_of_training():
    step = loops.TrainStep(model("rnn"), "mse", keras.optimizers.SGD(0.1))
    step(X, Y)
    states = {name: v.numpy() for name, v in step.state().items() if "states" in name}
    Validation(step, loops.Batches(X + 1.0, Y, 4))(RunCallbacks(), lambda: None)
    assert states
    for name, value in states.items():
        np.testing.assert_array_equal(step.state()[name].numpy(), value)


def test_two_updates_of_one_step():
    """A pass through both models, of which one has a bad loss."""
    one, two = model("norm"), model("norm")
    updates = [
        loops.Update(keras.optimizers.SGD(0.1), m.trainable_variables, on_nonfinite="skip")
        for m in (one, two)
    ]

    @loops.replicated
    def step(x, x_two):
        with tf.GradientTape(persistent=True) as tape:
            losses = [
                tf.reduce_mean(one(x, training=True) ** 2),
                tf.reduce_mean(two(x_two, training=True) ** 2),
            ]
        gradients = [tape.gradient(loss, update.variables) for loss, update in zip(losses, updates)]
        return [update(each) for update, each in zip(updates, gradients)]

    before = [v.numpy() for v in two.weights]
    assert [bool(taken) for taken in step(X, BAD)] == [True, False]
    np.testing.assert_allclose(one.layers[0].moving_mean.numpy(), X.mean(0) / 2)
    for variable, value in zip(two.weights, before):
        np.testing.assert_array_equal(variable.numpy(), value)
