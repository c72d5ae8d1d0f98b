"""Group and KernelDecay: what they take, and what they refuse."""

import math

import keras
import numpy as np
import pytest

from gradloop import optim
from gradloop.optim.groups.group import Group, KernelDecay

K = keras.optimizers


def built():
    optimizer = K.Adam(name="mine")
    optimizer.build([keras.Variable([1.0])])
    return optimizer


def test_defaults():
    group = Group("conv")
    assert (group.lr_scale, group.learning_rate, group.weight_decay) == (1.0, None, None)
    assert (group.frozen, group.optimizer) == (False, None)


def test_numbers_become_floats():
    group = Group("conv", lr_scale=np.float32(0.5), weight_decay=1)
    assert (type(group.lr_scale), group.lr_scale) == (float, 0.5)
    assert (type(group.weight_decay), group.weight_decay) == (float, 1.0)
    assert type(Group("conv", learning_rate=np.int64(2)).learning_rate) is float
    assert type(KernelDecay(1).value) is float


@pytest.mark.parametrize("settings", [{"lr_scale": 0}, {"learning_rate": 0}, {"weight_decay": 0}])
def test_zero_is_a_number(settings):
    Group("conv", **settings)


def test_settings_beside_the_filter_go_by_name():
    with pytest.raises(TypeError, match="positional argument"):
        Group("conv", 0.1)


@pytest.mark.parametrize(
    "where", ["conv", "conv*", keras.layers.Dense, lambda info: True, optim.kind("bias")]
)
def test_any_filter(where):
    assert Group(where).where is where


SCHEDULE = optim.OneCycle(0.1, total_steps=10)


@pytest.mark.parametrize(
    "settings, error, match",
    [
        ({"lr_scale": -0.1}, ValueError, "`lr_scale` must be a finite number at least 0, got -0.1"),
        ({"lr_scale": math.nan}, ValueError, "`lr_scale` must be a finite number at least 0, got nan"),
        ({"lr_scale": math.inf}, ValueError, "`lr_scale` must be a finite number at least 0, got inf"),
        ({"lr_scale": True}, TypeError, "`lr_scale` must be a number at least 0, got True"),
        ({"lr_scale": "0.1"}, TypeError, "`lr_scale` must be a number at least 0, got '0.1'"),
        ({"lr_scale": None}, TypeError, "`lr_scale` must be a number at least 0, got None"),
        ({"lr_scale": SCHEDULE}, TypeError, "`lr_scale` must be a number at least 0, got <.*OneCycle"),
        ({"learning_rate": -1e-3}, ValueError, "`learning_rate` must be a finite number at least 0"),
        ({"learning_rate": math.nan}, ValueError, "`learning_rate` must be a finite .*, got nan"),
        ({"learning_rate": "fast"}, TypeError, "`learning_rate` must be a number at least 0, got 'fast'"),
        ({"learning_rate": False}, TypeError, "`learning_rate` must be a number at least 0, got False"),
        (
            {"lr_scale": 0.1, "learning_rate": 1e-3},
            ValueError,
            r"`lr_scale` is 0.1 and `learning_rate` is 0.001: a group follows .*; give one of them",
        ),
        (
            {"lr_scale": 0.1, "learning_rate": SCHEDULE},
            ValueError,
            "`lr_scale` is 0.1 and `learning_rate` is <",
        ),
        ({"weight_decay": -1}, ValueError, "`weight_decay` must be a finite number at least 0, got -1"),
        ({"weight_decay": "1e-4"}, TypeError, "`weight_decay` must be a number at least 0, got '1e-4'"),
        ({"frozen": 1}, TypeError, "`frozen` must be True or False, got 1"),
        ({"frozen": None}, TypeError, "`frozen` must be True or False, got None"),
        ({"optimizer": "adam"}, TypeError, "`optimizer` must be a Keras optimizer, such as .*, got 'adam'"),
        ({"optimizer": K.Adam}, TypeError, "`optimizer` must be a Keras optimizer, .*, got <class"),
        (
            {"optimizer": K.LossScaleOptimizer(K.SGD())},
            ValueError,
            "`optimizer` is a LossScaleOptimizer: wrap",
        ),
        ({"optimizer": built()}, ValueError, "`optimizer` 'mine' is already built .* pass a fresh one"),
        (
            {"optimizer": K.SGD(clipnorm=1.0)},
            ValueError,
            "`optimizer` of a group has `clipnorm=1.0`: it holds",
        ),
        ({"optimizer": K.SGD(clipvalue=2.0)}, ValueError, "a group has `clipvalue=2.0`"),
        ({"optimizer": K.SGD(global_clipnorm=3.0)}, ValueError, "a group has `global_clipnorm=3.0`"),
        ({"optimizer": K.SGD(use_ema=True)}, ValueError, "a group has `use_ema=True`"),
        ({"optimizer": K.SGD(loss_scale_factor=8.0)}, ValueError, "a group has `loss_scale_factor=8.0`"),
        ({"optimizer": K.SGD(gradient_accumulation_steps=2)}, ValueError, "`gradient_accumulation_steps=2`"),
    ],
)
def test_bad_settings(settings, error, match):
    with pytest.raises(error, match=match):
        Group("conv", **settings)


@pytest.mark.skipif(not hasattr(K, "MultiOptimizer"), reason="this Keras has no MultiOptimizer")
def test_no_multi_optimizer():
    multi = K.MultiOptimizer(lambda variable: K.SGD())
    with pytest.raises(ValueError, match="`optimizer` is a MultiOptimizer, which GroupedOptimizer replaces"):
        Group("conv", optimizer=multi)


def test_no_filter():
    with pytest.raises(TypeError, match="filter"):
        Group(3)


@pytest.mark.parametrize(
    "value, error, match",
    [
        (-1e-4, ValueError, "`value` must be a finite number at least 0, got -0.0001"),
        (math.nan, ValueError, "`value` must be a finite number"),
        ("1e-4", TypeError, "`value` must be a number at least 0, got '1e-4'"),
    ],
)
def test_bad_decay(value, error, match):
    with pytest.raises(error, match=match):
        KernelDecay(value)


def test_kernel_decay_spares_vectors_and_scalars():
    decay = KernelDecay(0.1)
    shapes = [(), (3,), (3, 2), (2, 2, 1, 4)]
    variables = [keras.Variable(np.zeros(shape, "float32")) for shape in shapes]
    assert [decay.of(v) for v in variables] == [0.0, 0.0, 0.1, 0.1]


@pytest.mark.parametrize(
    "settings, rate, decay",
    [
        ({}, "x 1", "optimizer's"),
        ({"lr_scale": 0.123456, "weight_decay": 1e-4}, "x 0.1235", "0.0001"),
        ({"learning_rate": 3e-3, "weight_decay": KernelDecay(0.05)}, "0.003", "0.05 on kernels"),
        ({"learning_rate": SCHEDULE, "weight_decay": 0}, "OneCycle", "0"),
        ({"optimizer": K.Lion()}, "x 1", "its own"),
    ],
)
def test_in_words(settings, rate, decay):
    group = Group("conv", **settings)
    assert (group.rate_text, group.decay_text) == (rate, decay)
