"""What trains, what cannot, and what moves though it is frozen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.preflight_checks.trial import Trial

from .conftest import message, names


class Parts(keras.Model):
    """Two layers, of which `use` tells what the second does."""

    def __init__(self, use):
        super().__init__()
        self.one, self.two, self.use = keras.layers.Dense(3, "softmax"), keras.layers.Dense(8), use
        self.one.build((None, 8))
        self.two.build((None, 8))
        self.built = True

    def call(self, x):
        return self.one(self.use(self.two, x))


@pytest.mark.parametrize(
    ("use", "found"),
    [
        (lambda layer, x: layer(x), False),
        (lambda layer, x: x, True),
        (lambda layer, x: tf.stop_gradient(layer(x)), True),
    ],
)
def test_variables_without_a_gradient(lab, use, found):
    report = lab.report(lab.step(Parts(use)))
    assert names(report) == (["no_gradient"] if found else [])
    if found:
        assert "the loss does not depend on two/kernel, two/bias" in message(report, "no_gradient")


def test_zeros_for_a_gradient(lab):
    model = lab.net()
    model.layers[0].bias.assign(np.full(16, -100.0))
    report = lab.report(lab.step(model))
    assert "every gradient of body/kernel, body/bias, head/kernel is 0" in message(report, "no_gradient")
    assert "100% of the units of 'body' are 0 for all of 96 examples" in message(report, "dead_units")


def test_a_bias_that_cancels_out_is_no_fault(lab):
    def critic(model, batch):
        return loops.mean_loss((model(batch[0], training=True) - model(-batch[0], training=True))[:, 0])

    report = lab.report(lab.step(lab.net(1, None), critic))
    assert names(report) == []
    assert "gradient, but for head/bias, which the loss does not depend on" in report.passed["no_gradient"]


def test_half_of_the_units_may_be_dead(lab):
    model = lab.net()
    model.layers[0].bias.assign(np.where(np.arange(16) < 8, -100.0, 0.0))
    assert names(lab.report(lab.step(model))) == []
    model.layers[0].bias.assign(np.where(np.arange(16) < 9, -100.0, 0.0))
    assert "56% of the units of 'body'" in message(lab.report(lab.step(model)), "dead_units")


def test_dead_channels_are_counted_over_all_positions(lab):
    x = np.random.RandomState(0).rand(96, 6, 6, 1).astype("float32")
    conv = keras.layers.Conv2D(4, 3, activation="relu", name="conv")
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), conv, keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    )
    conv.bias.assign([0.5, 0.5, -50.0, -50.0])
    assert names(lab.report(lab.step(model), lab.data(x))) == []
    conv.bias.assign([0.5, -50.0, -50.0, -50.0])
    assert "75% of the units of 'conv'" in message(lab.report(lab.step(model), lab.data(x)), "dead_units")


def norm(lab, **options):
    between = [keras.layers.BatchNormalization(name="norm"), keras.layers.Dense(16, "relu", name="middle")]
    return lab.step(lab.net(between=between), **options)


def test_batches_for_norms(lab):
    report = lab.report(norm(lab))
    assert names(report) == []
    report = lab.report(norm(lab), lab.data(size=4))
    assert "take their statistics from 4 examples" in message(report, "batch_for_norms")
    # One that is frozen takes none.
    report = lab.report(norm(lab, variables="head"), lab.data(size=4))
    assert names(report) == [] and report.left_out["batch_for_norms"] == "no BatchNormalization trains"


class Forgetful(keras.layers.Layer):
    """A norm that heeds no `trainable`."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones", name="scale")
        self.mean = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False, name="mean")

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(x, 0))
        return self.scale * (x - self.mean)


WRITTEN = {"norm/moving_mean", "norm/moving_variance", "batches_done", "own/mean"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (None, None),
        ("head", "'norm' is frozen, and its state moves"),  # if it did: a `TrainStep` sees to it
        (["norm/gamma", "body", "middle", "head"], "'norm' is frozen in part"),
        (["norm", "head"], "'norm' trains between layers that are frozen"),
        (["norm", "middle", "head"], None),
        (["body", "norm"], None),
    ],
)
def test_statistics_of_norms_that_move(lab, variables, said):
    step = norm(lab, variables=variables)
    trial = Trial({"all": [1e-3]}, [1.0] * 20, WRITTEN, [], [], None)
    report = lab.report(step, trial=trial)
    assert names(report) == ([] if said is None else ["frozen_state"])
    assert said is None or said in message(report, "frozen_state")


@pytest.mark.parametrize("frozen", [False, True])
def test_a_layer_of_ones_own_that_moves_though_frozen(lab, frozen, capsys):
    own = Forgetful(name="own")
    step = lab.step(lab.net(between=[own]))
    own.trainable = not frozen
    report = loops.preflight(step, lab.data())
    assert names(report) == (["frozen_state"] if frozen else [])
    assert not frozen or "'own' is frozen, and its state moves" in message(report, "frozen_state")
    np.testing.assert_array_equal(own.mean.numpy(), np.zeros(16))
