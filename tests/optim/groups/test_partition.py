"""partition: each variable in exactly one group."""

import re

import keras
import numpy as np
import pytest

from gradloop import optim
from gradloop.optim.groups.group import Group, KernelDecay
from gradloop.optim.groups.partition import partition
from tests.optim.groups.models import net

L = keras.layers


NAMES = ("conv1/kernel", "conv1/bias", "bn/gamma", "bn/beta", "fc/kernel", "fc/bias")


def groups_of(plan):
    return {group: list(members) for group, members in plan.members.items()}


def test_each_variable_in_its_group():
    model = net()
    plan = partition(model, {"head": "fc", "norms": L.BatchNormalization, "rest of it": Group("conv*")})
    assert groups_of(plan) == {
        "head": ["fc/kernel", "fc/bias"],
        "norms": ["bn/gamma", "bn/beta"],
        "rest of it": ["conv1/kernel", "conv1/bias"],
    }
    assert plan.order == NAMES
    # In the order of `trainable_variables`, whatever the order of groups.
    assert [id(v) for v in plan.variables.values()] == [id(v) for v in model.trainable_variables]
    assert plan.group_of["bn/beta"] == "norms"
    assert list(plan.groups) == ["head", "norms", "rest of it"]


def test_settings_are_kept():
    group = Group("conv", lr_scale=0.1, weight_decay=KernelDecay(0.1))
    plan = partition(net(), {"conv": group, "others": ~optim.name("conv")})
    assert plan.groups["conv"] is group
    assert plan.groups["others"].lr_scale == 1.0


@pytest.mark.parametrize("rest", ["freeze", "train"])
def test_rest(rest):
    plan = partition(net(), {"head": "fc"}, rest=rest)
    assert groups_of(plan)["rest"] == list(NAMES[:4])
    assert plan.groups["rest"].frozen is (rest == "freeze")
    assert len(plan.trained) == (2 if rest == "freeze" else 6)


def test_no_rest_where_nothing_is_left():
    assert list(partition(net(), {"all": "*"}, rest="freeze").groups) == ["all"]


def test_a_variable_that_two_layers_share_is_planned_once():
    shared = L.Dense(3, name="shared")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, L.Dense(1, name="head")(shared(shared(inputs))))
    plan = partition(model, {"shared": "shared", "head": "head"})
    assert list(plan.order) == ["shared/kernel", "shared/bias", "head/kernel", "head/bias"]


def test_layers_that_do_not_train_may_be_left_out():
    model = net()
    model.get_layer("conv1").trainable = False
    plan = partition(model, {"norms": "bn", "head": "fc"})
    assert list(plan.order) == list(NAMES[2:])


@pytest.mark.parametrize(
    "groups, error, match",
    [
        (
            {"a": "conv", "b": "conv1/kernel", "c": "bn", "d": "fc"},
            optim.SelectionError,
            "`groups` overlap: 'a' and 'b' share conv1/kernel. Each variable belongs to one group: narrow",
        ),
        (
            {"a": "*", "b": "conv", "c": "fc/bias"},
            optim.SelectionError,
            "'a' and 'b' share conv1/kernel, conv1/bias; '[ab]' and 'c' share fc/bias",
        ),
        (
            {"a": "conv"},
            optim.SelectionError,
            "4 of 6 trainable variables are in no group: bn/gamma, bn/beta, fc/kernel, fc/bias. Add a .*"
            '`rest="freeze"` or `rest="train"`',
        ),
        ({"a": "cnov"}, optim.SelectionError, "group 'a': .*'cnov'.* Did you mean 'conv1'?"),
        (
            {"a": "moving*", "b": "*"},
            optim.SelectionError,
            "group 'a': .*moving.* matches only variables that never train, like moving statistics",
        ),
        ({}, ValueError, "`groups` is empty: give at least one"),
        ({"": "*"}, ValueError, "`groups` has the name '': names must be non-empty strings"),
        ({1: "*"}, ValueError, "`groups` has the name 1: names must be non-empty strings"),
        (["*"], TypeError, r"`groups` must be a dict of name -> Group or filter, got \['\*'\]"),
        ({"a": 3}, TypeError, "filter"),
    ],
)
def test_bad_groups(groups, error, match):
    with pytest.raises(error, match=match):
        partition(net(), groups)


def test_a_group_that_names_a_frozen_layer():
    model = net()
    model.get_layer("conv1").trainable = False
    match = (
        "group 'a' names frozen variables: conv1/kernel, conv1/bias, by `trainable = False` on 'conv1'. "
        r"Set it to True and freeze in the plan \(`Group\(..., frozen=True\)`\), or leave the layer out"
    )
    with pytest.raises(optim.SelectionError, match=match):
        partition(model, {"a": "conv", "b": "bn", "c": "fc"})
    # Nor does a group that also names layers that train hide it.
    with pytest.raises(optim.SelectionError, match="group 'all' names frozen variables: conv1/kernel"):
        partition(model, {"all": "*"})
    model.trainable = False
    with pytest.raises(optim.SelectionError, match="`trainable = False` on the model itself"):
        partition(model, {"all": "*"})


def test_bad_rest():
    with pytest.raises(ValueError, match="`rest` must be one of 'error', 'freeze', 'train', got 'keep'"):
        partition(net(), {"all": "*"}, rest="keep")
    with pytest.raises(
        ValueError, match="already has a group called 'rest', and `rest='train'` needs that name"
    ):
        partition(net(), {"rest": "fc"}, rest="train")
    assert list(partition(net(), {"rest": "*"}, rest="train").groups) == ["rest"]


def test_a_model_without_variables_yet():
    with pytest.raises(optim.NotBuiltError):
        partition(keras.Sequential([L.Dense(1)]), {"all": "*"})


def test_many_groups_of_one_variable():
    layers = [L.Dense(1, name=f"fc{index}") for index in range(50)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    plan = partition(model, {name: Group(re.compile(f"^{name}$")) for name in optim.named_variables(model)})
    assert np.array_equal(list(plan.groups), list(plan.order))
