"""Which variables are updated together, and with which weight decay."""

import keras
import pytest

from gradloop.optim.groups.group import Group, KernelDecay
from gradloop.optim.groups.partition import partition
from gradloop.optim.optimizer.assign_updaters import assign_updaters, grouped_variables
from gradloop.optim.updates.fused_updater import FusedUpdater
from gradloop.optim.updates.keras_updater import KerasUpdater

K = keras.optimizers
L = keras.layers


def net(dtypes=("float32", "float32", "float32")):
    layers = [L.Dense(2, name=name, dtype=dtype) for name, dtype in zip("abc", dtypes)]
    return keras.Sequential([keras.Input((2,)), *layers])


def divided(optimizer, groups, model=None):
    plan = partition(model or net(), groups)
    members = grouped_variables(plan, optimizer)
    updaters = assign_updaters(plan, optimizer, list(members.values()))
    return [(type(updater), sorted(m.name for m in updater.members)) for updater in updaters]


THREE = {"a": "a/*", "b": "b/*", "c": "c/*"}
NAMES = {name: [f"{name}/bias", f"{name}/kernel"] for name in "abc"}


def test_one_kernel_updates_all_groups():
    everything = [*NAMES["a"], *NAMES["b"], *NAMES["c"]]
    assert divided(K.Adam(), THREE) == [(FusedUpdater, everything)]


def test_a_keras_optimizer_updates_one_group():
    assert divided(K.Nadam(), THREE) == [(KerasUpdater, NAMES[name]) for name in "abc"]


def test_other_optimizers_and_dtypes_have_other_updaters():
    groups = {"a": Group("a/*", optimizer=K.SGD()), "b": Group("b/*", optimizer=K.Lion()), "c": "c/*"}
    assert divided(K.Adam(), groups, net(("float64", "float32", "bfloat16"))) == [
        (FusedUpdater, NAMES["a"]),
        (KerasUpdater, NAMES["b"]),
        (KerasUpdater, NAMES["c"]),
    ]
    both = divided(K.Adam(), {"all": "*"}, net(("float64", "float32", "bfloat16")))
    assert both == [(FusedUpdater, NAMES["a"]), (FusedUpdater, NAMES["b"]), (KerasUpdater, NAMES["c"])]


def test_indices_of_variables_and_groups():
    plan = partition(net(), {"c": "c/*", "others": "a/*", "b": "b/*"})
    members = grouped_variables(plan, K.Adam())
    assert list(members) == list(plan.order)
    assert [member.index for member in members.values()] == list(range(6))
    assert [member.group for member in members.values()] == [1, 1, 2, 2, 0, 0]
    assert all(member.variable is plan.variables[name] for name, member in members.items())


@pytest.mark.parametrize(
    "group, expected",
    [
        ({}, {"kernel": 0.5, "bias": 0.5}),
        ({"weight_decay": 0.25}, {"kernel": 0.25, "bias": 0.25}),
        ({"weight_decay": 0.0}, {"kernel": 0.0, "bias": 0.0}),
        ({"weight_decay": KernelDecay(0.25)}, {"kernel": 0.25, "bias": 0.0}),
        ({"optimizer": K.SGD(weight_decay=0.125)}, {"kernel": 0.125, "bias": 0.125}),
        ({"optimizer": K.SGD()}, {"kernel": 0.0, "bias": 0.0}),
    ],
)
def test_weight_decay(group, expected):
    plan = partition(net(), {"a": Group("a/*", **group), "b": "b/*", "c": "c/*"})
    members = grouped_variables(plan, K.AdamW(weight_decay=0.5))
    assert {name.split("/")[1]: m.decay for name, m in members.items() if name[0] == "a"} == expected
    assert members["b/bias"].decay == 0.5


def test_what_the_optimizer_leaves_out():
    model = net()
    optimizer = K.AdamW(weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[model.trainable_variables[0]], var_names=["bias"])
    plan = partition(model, {"a": "a/*", "b": "b/*", "c": Group("c/*", weight_decay=0.25)})
    decays = {name: member.decay for name, member in grouped_variables(plan, optimizer).items()}
    # A group's own decay is for all of its variables.
    assert decays == {
        **{"a/kernel": 0.0, "a/bias": 0.0, "b/kernel": 0.5, "b/bias": 0.0},
        **{"c/kernel": 0.25, "c/bias": 0.25},
    }
