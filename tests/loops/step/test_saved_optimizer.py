"""`model.save` after a step, and on from there: as if nothing had been saved."""

import keras
import numpy as np
import pytest

from gradloop import loops, optim

pytestmark = pytest.mark.numbers

K, L = keras.optimizers, keras.layers
X = np.random.default_rng(0).random((8, 3))
Y = np.random.default_rng(1).random((8, 2))


def net(policy="float64"):
    keras.utils.set_random_seed(0)
    layers = [L.Dense(4, "tanh", name="body"), L.BatchNormalization(name="norm"), L.Dense(2, name="head")]
    for layer in layers:
        layer.dtype_policy = policy
    return keras.Sequential([keras.Input((3,)), *layers])


def grouped(model):
    return optim.GroupedOptimizer(K.Nadam(0.01), optim.partition(model, {"body": "body"}, rest="train"))


OPTIMIZERS = {
    "adam": lambda model: "adam",
    "schedule": lambda model: K.SGD(K.schedules.CosineDecay(0.1, 9), momentum=0.9),
    "grouped": grouped,
    "loss scale": lambda model: K.LossScaleOptimizer(K.Adam(0.01, use_ema=True)),
}


# From an `.h5` file, Keras builds its own optimizers over no variables.
@pytest.mark.parametrize("kind, ending", [*((kind, "keras") for kind in OPTIMIZERS), ("grouped", "h5")])
def test_a_step_after_loading_is_a_step_without_saving(kind, ending, tmp_path):
    model, losses = net(), []
    step = loops.TrainStep(model, "mse", OPTIMIZERS[kind](model))
    assert not model.compiled  # nothing is done by the constructor
    for _ in range(3):
        step(X, Y)
    model.save(tmp_path / f"model.{ending}")
    again = keras.models.load_model(tmp_path / f"model.{ending}")
    for each in (step, loops.TrainStep(again, "mse", again.optimizer)):
        losses.append([float(each(X, Y)["loss"]) for _ in range(2)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for one, other in zip(again.weights, model.weights):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    assert int(again.optimizer.iterations.numpy()) == 5


def test_the_step_that_began_last_is_saved():
    model = net()
    for optimizer in (K.SGD(0.1), K.SGD(0.2)):
        step = loops.TrainStep(model, "mse", optimizer, variables="head")
        step(X, Y)
        assert model.optimizer is optimizer
    assert isinstance(model.loss, keras.losses.MeanSquaredError)


def test_a_compile_of_ones_own_is_left_alone():
    class Own(keras.Model):
        def compile(self, mine):
            raise AssertionError

    model = net()
    model = Own(model.inputs, model.outputs)
    loops.TrainStep(model, "mse", "sgd")(X, Y)
    assert not hasattr(model, "optimizer")


def test_what_the_user_compiles_is_left_alone_and_told():
    model = net()
    model.compile("adam")
    before = model.optimizer
    with pytest.warns(UserWarning, match="with an Adam that is not this step's SGD, and `model.save` will"):
        step = loops.TrainStep(model, "mse", "sgd")
    step(X, Y)
    assert model.optimizer is before
    loops.TrainStep(model, "mse", before)
    loops.TrainStep(model, "mse", K.LossScaleOptimizer(before))


def test_a_run_leaves_the_optimizer_of_the_step():
    model = net()
    loss = lambda model, batch: loops.mean_loss((batch[1] - model(batch[0])) ** 2)  # noqa: E731
    step = loops.TrainStep(model, loss, "sgd")
    loops.train(step, loops.Batches(X, Y, 4), epochs=1)
    assert model.optimizer is step.optimizer and model.compiled
