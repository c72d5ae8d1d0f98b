"""A fused updater: its state, its averages, and what happens after an update."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.updates.base import Averaging, GroupedVariable, UpdateContext, new_slot
from gradloop.optim.updates.fused_updater import FusedUpdater
from gradloop.optim.updates.tensorflow_ops import update_op_for

K = keras.optimizers


def updater_of(optimizer, averaging=None, constraint=None, decay=0.0):
    variables = [keras.Variable([3.0, 4.0], name=name) for name in ("v", "w")]
    variables[1].constraint = constraint
    members = [GroupedVariable(v.name, v, index, index, decay) for index, v in enumerate(variables)]
    return FusedUpdater(update_op_for(optimizer, "float32"), members, averaging)


def context(updates, rates=(0.1, 0.1), active=None, iterations=0):
    active = None if active is None else [tf.constant(one) for one in active]
    return UpdateContext(
        [tf.constant(rate) for rate in rates], active, tf.constant(updates, tf.int64), iterations
    )


def given(updater):
    return [(member, tf.ones([2])) for member in updater.members]


def values(updater):
    return [member.variable.numpy() for member in updater.members]


def test_state_is_named_and_starts_as_the_kernel_says():
    updater = updater_of(K.RMSprop(momentum=0.9, centered=True), Averaging(0.9, None))
    slots = ("velocity", "momentum", "average_gradient", "average")
    assert sorted(updater.state()) == sorted(f"{name}/{slot}" for name in "vw" for slot in slots)
    assert all(not v.numpy().any() for v in updater.state().values())
    accumulators = updater_of(K.Adagrad(initial_accumulator_value=0.5, epsilon=0.25)).state()
    np.testing.assert_array_equal(accumulators["v/accumulator"], [0.75, 0.75])


def test_each_member_has_the_rate_of_its_group():
    updater = updater_of(K.SGD())
    updater.apply(given(updater), context([1, 1], rates=(0.5, 2.0)))
    np.testing.assert_allclose(values(updater), [[2.5, 3.5], [1, 2]])


def test_a_subset_in_another_order():
    updater = updater_of(K.Adam(0.1, epsilon=0.0))
    updater.apply(given(updater)[::-1], context([1, 5]))
    updater.apply(given(updater)[1:], context([1, 6]))
    np.testing.assert_allclose(values(updater)[0], [2.9, 3.9], rtol=1e-6)
    assert not np.allclose(values(updater)[1], [2.8, 3.8])  # not the first update for its bias correction


def test_decay_goes_by_the_groups_rate():
    updater = updater_of(K.Adam(), decay=0.5)
    updater.apply([(member, tf.zeros([2])) for member in updater.members], context([1, 1], rates=(0.1, 0.2)))
    np.testing.assert_allclose(values(updater), [[3 * 0.95, 4 * 0.95], [3 * 0.9, 4 * 0.9]], rtol=1e-6)


def test_averages_start_with_the_first_update_of_each_variable():
    updater = updater_of(K.SGD(), Averaging(0.75, None))
    updater.apply(given(updater), context([1, 2]))
    state = updater.state()
    np.testing.assert_allclose(state["v/average"], values(updater)[0])
    np.testing.assert_allclose(state["w/average"], 0.25 * values(updater)[1])


@pytest.mark.parametrize("iterations, overwrites", [(0, False), (1, True), (2, False), (3, True)])
def test_overwritten_every_second_update(iterations, overwrites):
    updater = updater_of(K.SGD(), Averaging(0.75, 2))
    updater.apply(given(updater), context([2, 2], iterations=tf.constant(iterations)))
    expected = np.array([2.9, 3.9]) * (0.25 if overwrites else 1)
    np.testing.assert_allclose(values(updater)[0], expected, rtol=1e-6)


def test_constraints_come_last():
    updater = updater_of(K.SGD(), Averaging(0.5, 1), keras.constraints.UnitNorm())
    updater.apply(given(updater), context([1, 1]))
    np.testing.assert_allclose(values(updater)[0], [2.9, 3.9], rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(values(updater)[1]), 1.0, rtol=1e-6)
    np.testing.assert_allclose(updater.state()["w/average"], [2.9, 3.9], rtol=1e-6)


@pytest.mark.parametrize("optimizer", [K.SGD(), K.SGD(momentum=0.9), K.Adagrad(), K.Adam()])
def test_an_inactive_group_keeps_its_weights_averages_and_breach_of_constraints(optimizer):
    updater = updater_of(optimizer, Averaging(0.5, 1), keras.constraints.UnitNorm(), decay=0.1)
    before = {name: v.numpy() for name, v in updater.state().items()}
    update = context([1, 0], rates=(0.1, 0.0), active=(True, False))
    tf.function(lambda: updater.apply(given(updater), update), autograph=False)()
    assert not np.array_equal(values(updater)[0], [3, 4])
    np.testing.assert_array_equal(values(updater)[1], [3, 4])
    for name, variable in updater.state().items():
        if name.startswith("w/"):
            np.testing.assert_array_equal(variable, before[name])
    assert not np.array_equal(updater.state()["v/average"], before["v/average"])


def test_new_slot():
    variable = keras.Variable(np.ones((2, 3)), dtype="float64")
    slot = new_slot(GroupedVariable("blocks/0/kernel", variable, 0, 0, 0.0), "momentum", 0.5)
    assert (slot.dtype, tuple(slot.shape), slot.trainable) == ("float64", (2, 3), False)
    assert slot.name == "blocks.0.kernel.momentum"
    np.testing.assert_array_equal(slot, np.full((2, 3), 0.5))
    other = new_slot(GroupedVariable("blocks_0/kernel", variable, 0, 0, 0.0), "momentum")
    assert slot.path != other.path
