"""Plan: how it changes and prints."""

import re

import keras
import pytest

from gradloop import optim
from gradloop.optim.groups.group import Group, KernelDecay
from gradloop.optim.groups.partition import partition
from tests.optim.groups.models import net

L = keras.layers


def test_a_plan_never_changes():
    plan = partition(net(), {"body": Group("conv", lr_scale=0.1), "head": Group("fc"), "bn": "bn"})
    frozen = plan.freeze("body", "bn")
    assert [plan.groups[name].frozen for name in plan.groups] == [False, False, False]
    assert [frozen.groups[name].frozen for name in plan.groups] == [True, False, True]
    assert [v.path.split("/", 1)[1] for v in frozen.trained] == ["fc/kernel", "fc/bias"]
    thawed = frozen.unfreeze("bn")
    assert [thawed.groups[name].frozen for name in plan.groups] == [True, False, False]
    assert plan.rescale("body", 0.5).groups["body"].lr_scale == 0.5
    assert plan.groups["body"].lr_scale == 0.1
    with pytest.raises(AttributeError):
        plan.order = ()


def test_a_rate_of_its_own_is_set():
    plan = partition(net(), {"all": Group("*", learning_rate=0.1)})
    assert plan.set_learning_rate("all", 1).groups["all"].learning_rate == 1.0


CYCLE = optim.OneCycle(0.01, total_steps=10)
COSINE = keras.optimizers.schedules.CosineDecay(0.01, 10)


@pytest.mark.parametrize(
    "change, error, match",
    [
        (
            lambda p: p.freeze(),
            ValueError,
            "`names` is empty: name at least one of the groups 'follows', 'own'",
        ),
        (
            lambda p: p.freeze("folows"),
            ValueError,
            "`names` holds 'folows', which is no group: the groups are",
        ),
        (lambda p: p.unfreeze("follows", "x"), ValueError, "`names` holds 'x', which is no group"),
        (lambda p: p.rescale("x", 0.1), ValueError, "`names` holds 'x', which is no group"),
        (
            lambda p: p.rescale("follows", -1),
            ValueError,
            "`lr_scale` must be a finite number at least 0, got -1",
        ),
        (lambda p: p.rescale("follows", "1"), TypeError, "`lr_scale` must be a number at least 0, got '1'"),
        (
            lambda p: p.rescale("own", 0.1),
            ValueError,
            r"group 'own' has a learning rate of its own \(0.01\), .*: use `set_learning_rate`",
        ),
        (lambda p: p.set_learning_rate("x", 0.1), ValueError, "`names` holds 'x', which is no group"),
        (lambda p: p.set_learning_rate("own", True), TypeError, "`learning_rate` must be a number"),
        (
            lambda p: p.set_learning_rate("follows", 0.1),
            ValueError,
            "group 'follows' follows the optimizer's learning rate: use `rescale`",
        ),
        (
            lambda p: p.set_learning_rate("cycle", 0.1),
            ValueError,
            "group 'cycle' follows a OneCycle schedule, which allows at most 0.01; it cannot be set to 0.1",
        ),
        (
            lambda p: p.set_learning_rate("cosine", 0.1),
            ValueError,
            "group 'cosine' follows a CosineDecay schedule; it cannot be set to 0.1",
        ),
    ],
)
def test_bad_changes(change, error, match):
    plan = partition(
        net(),
        {
            "follows": "conv",
            "own": Group("bn", learning_rate=0.01),
            "cycle": Group("fc/kernel", learning_rate=CYCLE),
            "cosine": Group("fc/bias", learning_rate=COSINE),
        },
    )
    with pytest.raises(error, match=match):
        change(plan)


def test_printed():
    plan = partition(
        net(),
        {
            "backbone": Group("conv*", lr_scale=0.1, weight_decay=KernelDecay(1e-4)),
            "norms": Group(L.BatchNormalization, frozen=True),
            "head": Group("fc", learning_rate=CYCLE, optimizer=keras.optimizers.Lion()),
        },
    )
    assert str(plan).splitlines() == [
        "group     variables  parameters  learning rate    weight decay       state",
        "backbone          2          20  x 0.1            0.0001 on kernels  trains",
        "norms             2           4  x 1              optimizer's        frozen",
        "head              2         146  OneCycle (Lion)  its own            trains",
        "3 groups, 6 variables, 170 parameters, 166 train",
    ]


def test_totals_of_large_models_have_separators():
    model = keras.Sequential([keras.Input((1000,)), L.Dense(2000, name="fc")])
    assert re.search("2 variables, 2,002,000 parameters, 2,002,000 train", str(partition(model, {"a": "*"})))
