"""Weights that come between `build` and the first update are what the optimizer starts from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.optim import GroupedOptimizer, partition
from gradloop.optim.updates.weight_copies import WeightCopies

K = keras.optimizers


class Lookahead(keras.optimizers.SGD):
    """Zhang et al. 2019, one step at a time: slow weights go half of the way of another optimizer's."""

    def __init__(self, inner):
        super().__init__(1.0)
        self.inner = inner

    def build(self, variables):
        super().build(variables)
        self.inner.build(variables)
        self.slow = [self.add_variable_from_reference(v, "slow") for v in variables]
        for slow, variable in zip(self.slow, variables):
            slow.assign(variable)

    def update_step(self, gradient, variable, learning_rate):
        slow = self.slow[self._get_variable_index(variable)]
        self.inner.update_step(gradient, variable, self.inner.learning_rate)
        slow.assign_add(0.5 * (variable - slow))
        variable.assign(slow)


MAKE = {"Lookahead": lambda: Lookahead(K.SGD(0.1))}
if hasattr(K, "ScheduleFreeAdamW"):  # not in every Keras
    MAKE = {"ScheduleFreeAdamW": lambda: K.ScheduleFreeAdamW(0.1), **MAKE}
make_first = next(iter(MAKE.values()))


class Weights(keras.layers.Layer):
    def __init__(self, value=0.0):
        super().__init__()
        self.kernel = keras.Variable(np.full((3, 2), value), dtype="float32", name="kernel")
        self.bias = keras.Variable(np.full(2, value), dtype="float32", name="bias")
        self.built = True


def three_updates(update):
    for _ in range(3):
        update([tf.ones((3, 2)), tf.constant([0.5, -1.0])])


def load(weights, value):
    for variable in weights.trainable_variables:
        variable.assign(tf.fill(variable.shape, value))


@pytest.mark.parametrize("how", ["built", "update", "grouped", "update of grouped"])
@pytest.mark.parametrize("name", MAKE)
def test_weights_that_are_loaded_before_the_first_update(name, how):
    expected, optimizer = Weights(5.0), MAKE[name]()
    optimizer.build(expected.trainable_variables)
    three_updates(optimizer.apply)

    weights, optimizer = Weights(), MAKE[name]()
    if how == "built":
        optimizer.build(weights.trainable_variables)
    if "grouped" in how:
        optimizer = GroupedOptimizer(optimizer, partition(weights, {"all": "*"}))
    update = optimizer.apply if how == "grouped" else loops.Update(optimizer, weights.trainable_variables)
    load(weights, 5.0)
    three_updates(tf.function(update, autograph=False) if how == "update" else update)
    for variable, wanted in zip(weights.trainable_variables, expected.trainable_variables):
        np.testing.assert_allclose(variable, wanted, rtol=1e-6)


def test_a_group_that_trains_late_starts_from_its_weights_then():
    weights = Weights()
    plan = partition(weights, {"kernel": "kernel", "bias": "bias"})
    optimizer = GroupedOptimizer(make_first(), plan)
    optimizer.freeze("bias")
    load(weights, 5.0)
    three_updates(optimizer.apply)
    weights.bias.assign([7.0, 7.0])
    optimizer.unfreeze("bias")
    three_updates(optimizer.apply)
    expected = keras.Variable([7.0, 7.0])
    alone = make_first()
    alone.build([expected])
    for _ in range(3):
        alone.apply([tf.constant([0.5, -1.0])])
    np.testing.assert_allclose(weights.bias, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["Lion", "Nadam", "Adafactor", "Ftrl", "Lamb", "Adam"])
def test_other_state_is_no_copy_whatever_the_weights_are(name):
    weights, optimizer = Weights(), getattr(K, name)()
    optimizer.build(weights.trainable_variables)
    assert WeightCopies(optimizer, weights.trainable_variables)._pairs == []


def test_a_build_that_wants_its_own_variables_has_no_copies():
    class Demanding(keras.optimizers.SGD):
        def build(self, variables):
            assert variables[0].shape == (3, 2)
            super().build(variables)

    weights, optimizer = Weights(), Demanding(0.1)
    optimizer.build(weights.trainable_variables)
    assert WeightCopies(optimizer, weights.trainable_variables)._pairs == []


def test_a_trained_optimizer_keeps_its_copies():
    weights, optimizer = Weights(5.0), make_first()
    optimizer.build(weights.trainable_variables)
    three_updates(optimizer.apply)
    before = [variable.numpy() for variable in optimizer.variables]
    WeightCopies(optimizer, weights.trainable_variables).renew()
    for variable, old in zip(optimizer.variables, before):
        np.testing.assert_array_equal(variable, old)
