"""The rate of each group from one base rate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import optim
from gradloop.optim.groups.group import Group
from gradloop.optim.optimizer.group_rates import Rates

K = keras.optimizers
COSINE = K.schedules.CosineDecay(0.2, 10)
GROUPS = {
    "follows": Group("a"),
    "scaled": Group("a", lr_scale=0.1),
    "fixed": Group("a", learning_rate=0.3),
    "schedule": Group("a", learning_rate=COSINE),
    "optimizer": Group("a", optimizer=K.SGD(0.4), lr_scale=0.5),
    "its schedule": Group("a", optimizer=K.SGD(COSINE), lr_scale=0.5),
    "its function": Group("a", optimizer=K.SGD(lambda: 0.7)),
    "both": Group("a", optimizer=K.SGD(0.4), learning_rate=0.6),
}


def now(rates, base, step):
    return [float(rate) for rate in rates.now(base, tf.constant(step, tf.int64))]


@pytest.mark.parametrize("step", [0, 5])
def test_every_source_of_a_rate(step):
    cosine = 0.1 * (1 + np.cos(np.pi * step / 10))
    expected = [2.0, 0.2, 0.3, cosine, 0.2, 0.5 * cosine, 0.7, 0.6]
    np.testing.assert_allclose(now(Rates(list(GROUPS.values())), 2.0, step), expected, rtol=1e-6)


def test_one_group_and_a_variable_as_the_base():
    rates = Rates([Group("a", lr_scale=0.5)])
    np.testing.assert_allclose(now(rates, keras.Variable(3.0), 0), [1.5])


def test_new_settings_need_no_new_trace():
    groups = [Group("a", lr_scale=0.5), Group("a", learning_rate=0.3)]
    rates = Rates(groups)
    traces = []

    @tf.function
    def run(base):
        traces.append(1)
        return rates.now(base, tf.constant(0))

    assert [float(rate) for rate in run(tf.constant(1.0))] == pytest.approx([0.5, 0.3])
    rates.set([Group("a", lr_scale=0.25), Group("a", learning_rate=0.6)])
    assert [float(rate) for rate in run(tf.constant(2.0))] == pytest.approx([0.5, 0.6])
    assert len(traces) == 1


def test_our_schedules():
    rates = Rates([Group("a", learning_rate=optim.OneCycle(0.1, total_steps=10))])
    assert now(rates, 1.0, 2) == pytest.approx([0.1])
