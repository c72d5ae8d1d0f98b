"""Metrics that layers hold: in the logs, each epoch anew, as `fit` shows them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers

L = keras.layers
X = np.random.default_rng(0).random((8, 3), "float32")
Y = np.random.default_rng(1).random((8, 2), "float32")


class Holds(keras.layers.Layer):
    """Means of what passes, and of its squares; a third metric that nothing updates."""

    def __init__(self, kind=keras.metrics.Mean, **options):
        super().__init__(**options)
        self.level = kind(name="level")
        self.more = [keras.metrics.Mean(name="square"), keras.metrics.Mean(name="unused")]

    def call(self, x):
        self.level.update_state(tf.reduce_mean(x, -1))
        self.more[0](x**2)
        return x


def network():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((4,)), Holds(name="inner"), L.Dense(2)])
    return keras.Sequential([keras.Input((3,)), L.Dense(4), Holds(name="outer"), inner])


def test_logs_are_those_of_fit(assert_same_weights):
    ours, theirs = network(), network()
    theirs.compile(keras.optimizers.SGD(0.1), "mse")
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = theirs.fit(X, Y, validation_data=(X[:6], Y[:6]), **options)
    data, other = (loops.Batches(X[:n], Y[:n], 4, shuffle=False) for n in (8, 6))
    step = loops.TrainStep(ours, "mse", keras.optimizers.SGD(0.1))
    found = loops.train(step, data, epochs=2, validation=other).history
    # `fit` has one entry for all metrics of a name, that of the last; here each has its own.
    names = ("loss", "level", "square", "level_1", "square_1")
    assert set(found) == {prefix + name for prefix in ("", "val_") for name in names}
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(found[name], expected.history[name], rtol=1e-5)
    last = {"level": "level_1", "square": "square_1"}
    for name, own in last.items():
        np.testing.assert_allclose(found[own], expected.history[name], rtol=1e-5)
        np.testing.assert_allclose(found[f"val_{own}"], expected.history[f"val_{name}"], rtol=1e-5)
    assert_same_weights(ours, theirs, rtol=1e-5)


def test_values_of_each_step_and_of_an_evaluation():
    model = keras.Sequential([keras.Input((3,)), Holds(), L.Dense(2)])
    step = loops.TrainStep(model, "mse", "sgd")
    logs = [step(X[:2], Y[:2]), step(X[2:], Y[2:])]
    assert [float(log["level"]) for log in logs] == pytest.approx([X[:2].mean(), X.mean()], rel=1e-5)
    assert set(logs[0]) == {"loss", "level", "square"}
    step.reset_metrics()
    values = step.run(iter(loops.Batches(X, Y, 4, shuffle=False)), 2)
    np.testing.assert_allclose(values["square"], [(X[:4] ** 2).mean(), (X**2).mean()], rtol=1e-5)
    data = loops.Batches(X, Y, 3)
    assert loops.evaluate(loops.EvalStep(model, "mse"), data)["level"] == pytest.approx(X.mean(), rel=1e-5)
    assert "metrics/level/total" in step.state()
    assert "update_state" not in vars(model.layers[0].level), "the method of its class"


def test_a_skipped_step_is_in_no_metric():
    model = keras.Sequential([keras.Input((3,)), Holds(), L.Dense(2)])
    step = loops.TrainStep(model, "mse", "sgd", on_nonfinite="skip")
    step(X[:4], Y[:4])
    step(np.full_like(X, np.nan), Y)
    assert float(step(X[4:], Y[4:])["level"]) == pytest.approx(X.mean(), rel=1e-5)


def test_a_metric_of_a_train_step_is_not_shown_and_one_that_is_given_is_shown_once():
    class Theirs(keras.Model):
        def __init__(self):
            super().__init__()
            self.head, self.tracker = L.Dense(2), keras.metrics.Mean(name="loss")

        def call(self, x):
            return self.head(x)

    model = Theirs()
    model(X)
    assert set(loops.TrainStep(model, "mse", "sgd")(X, Y)) == {"loss"}
    holds = Holds()
    model = keras.Sequential([keras.Input((3,)), holds, L.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X, Y, verbose=0)
    outer = keras.Sequential([keras.Input((3,)), model])
    logs = loops.TrainStep(outer, "mse", "sgd", metrics=["mae"])(X, Y)
    assert set(logs) == {"loss", "mae", "level", "square"}

    def loss(model, batch):
        return loops.mean_loss(keras.losses.mean_squared_error(batch[1], model(batch[0])))

    assert set(loops.TrainStep(outer, loss, "sgd")(X, Y)) == {"loss", "level", "square"}


def test_what_is_no_scalar_is_told():
    class Vector(keras.metrics.Mean):
        def result(self):
            return tf.stack([super().result()] * 2)

    model = keras.Sequential([keras.Input((3,)), Holds(Vector), L.Dense(2)])
    with pytest.warns(
        UserWarning, match="`model` has a layer with the metric 'level', .*no scalar.*: read it"
    ):
        logs = loops.TrainStep(model, "mse", "sgd")(X, Y)
    assert set(logs) == {"loss", "square"}
