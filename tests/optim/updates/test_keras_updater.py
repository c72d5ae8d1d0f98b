"""A group under Keras' own optimizer: driven with the group's rate, its state named."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.updates.base import Averaging, GroupedVariable, UpdateContext
from gradloop.optim.updates.keras_updater import KerasUpdater

K = keras.optimizers
STOCK = sorted(
    name
    for name, item in vars(K).items()
    if inspect.isclass(item)
    and issubclass(item, K.Optimizer)
    and name not in {"Optimizer", "MultiOptimizer", "LossScaleOptimizer"}
)
SHAPES = {"w": (4, 3), "b": (3,)}


def members(names=("w", "b")):
    made = []
    for index, name in enumerate(names):
        value = np.random.RandomState(len(name)).standard_normal(SHAPES[name]).astype("float32")
        made.append(GroupedVariable(name, keras.Variable(value, name=name), index, 0, 0.0))
    return made


def updater_of(optimizer, mine=None, decay=None, exempt=(), averaging=None):
    return KerasUpdater(optimizer, mine or members(), decay, exempt, averaging)


def context(rate=0.1, active=None):
    return UpdateContext([tf.constant(rate)], None if active is None else [tf.constant(active)], None, 0)


def given(updater):
    return [(member, tf.ones(member.variable.shape)) for member in updater.members]


def values(updater):
    return [member.variable.numpy() for member in updater.members]


@pytest.mark.parametrize("name", STOCK)
def test_every_state_variable_has_one_name(name):
    optimizer = getattr(K, name)()
    updater = updater_of(optimizer, averaging=Averaging(0.9, None))
    bare = getattr(K, name)(use_ema=True)
    bare.build([member.variable for member in members()])
    kept = [v for v in bare.variables if v is not bare.iterations and v.name != "learning_rate"]
    state = updater.state()
    assert sorted(tuple(v.shape) for v in state.values()) == sorted(tuple(v.shape) for v in kept)
    assert len({id(v) for v in state.values()}) == len(state)
    assert {"w/average", "b/average"} <= set(state)
    for key, variable in state.items():
        owner, slot = key.split("/")
        assert owner in SHAPES
        assert slot.startswith(("extra_", "shared")) or tuple(variable.shape) == SHAPES[owner]


@pytest.mark.parametrize(
    "optimizer, names",
    [
        (K.Lion, {"w/momentum": (4, 3), "b/momentum": (3,)}),
        (K.Ftrl, {f"{name}/{slot}": SHAPES[name] for name in "wb" for slot in ("accumulator", "linear")}),
        (
            K.Adafactor,
            {
                **{"w/extra_0": (4,), "w/extra_1": (3,), "w/velocity": (4, 3)},
                **{"b/extra_0": (), "b/extra_1": (), "b/velocity": (3,)},
            },
        ),
        (
            K.Nadam,
            {
                **{"w/momentum": (4, 3), "w/velocity": (4, 3), "b/momentum": (3,), "b/velocity": (3,)},
                "b/shared": (),  # the product of momenta, which the group has in common
            },
        ),
    ],
)
@pytest.mark.parametrize("order", [("w", "b"), ("b", "w")])
def test_names_in_any_order_of_variables(optimizer, names, order):
    state = updater_of(optimizer(), members(order)).state()
    assert {name: tuple(v.shape) for name, v in state.items()} == names


def test_the_optimizer_is_copied_without_what_is_common():
    settings = {"clipnorm": 1e-9, "loss_scale_factor": 4.0, "gradient_accumulation_steps": 2}
    optimizer = K.Adamax(0.5, beta_1=0.7, **settings)
    updater, plain = updater_of(optimizer), updater_of(K.Adamax(0.5, beta_1=0.7))
    for each in (updater, plain):
        each.apply(given(each), context())
    assert not optimizer.built
    assert int(updater.own_count.numpy()) == 1
    for one, other in zip(values(updater), values(plain)):
        np.testing.assert_array_equal(one, other)


def fixed_rate():
    return 0.3


@pytest.mark.parametrize("rate", [0.3, fixed_rate, K.schedules.CosineDecay(0.3, 10)])
def test_the_rate_is_the_groups_whatever_the_optimizer_has(rate):
    updater = updater_of(K.Adamax(rate))
    bare, mine = K.Adamax(0.1), members()
    updater.apply(given(updater), context(0.1))
    bare.build([member.variable for member in mine])
    bare.apply([gradient for _, gradient in given(updater)])
    for one, other in zip(values(updater), mine):
        np.testing.assert_array_equal(one, other.variable.numpy())


def test_decay_and_what_is_exempt():
    mine = members()
    updater = updater_of(K.Lion(weight_decay=0.25), mine, decay=0.5, exempt=[mine[1].variable])
    before = values(updater)
    updater.apply([(member, tf.zeros(member.variable.shape)) for member in mine], context(0.1))
    np.testing.assert_allclose(values(updater)[0], before[0] * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(values(updater)[1], before[1])


@pytest.mark.skipif("adam_weight_decay" not in K.Muon().get_config(), reason="this Keras has one decay")
def test_both_decays_of_muon():
    updater = updater_of(K.Muon(), decay=0.5)
    config = updater.optimizer.get_config()
    assert (config["weight_decay"], config["adam_weight_decay"]) == (0.5, 0.5)


@pytest.mark.parametrize("active", [True, False])
def test_an_inactive_group_does_not_move(active):
    updater = updater_of(K.Lion(weight_decay=0.5), averaging=Averaging(0.9, 1))
    before = [*values(updater), *[v.numpy() for v in updater.state().values()]]
    tf.function(lambda: updater.apply(given(updater), context(active=active)), autograph=False)()
    after = [*values(updater), *[v.numpy() for v in updater.state().values()]]
    moved = [not np.array_equal(old, new) for old, new in zip(before, after)]
    assert moved == [active] * len(moved)
    assert int(updater.own_count.numpy()) == active


def test_averages():
    updater = updater_of(K.Lion(), averaging=Averaging(0.5, None))
    means = None
    for step in range(3):
        updater.apply(given(updater), context())
        means = values(updater) if step == 0 else [0.5 * m + 0.5 * v for m, v in zip(means, values(updater))]
    for name, mean in zip(("w", "b"), means):
        np.testing.assert_allclose(updater.state()[f"{name}/average"].numpy(), mean, rtol=1e-6)
