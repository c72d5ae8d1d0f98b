"""A plan as JSON, and bound again to the variables of a model that was loaded or built anew."""

import json

import keras
import pytest

from gradloop import optim
from gradloop.optim.groups.group import Group, KernelDecay
from gradloop.optim.groups.partition import partition
from gradloop.optim.groups.saved_plan import SavedPlan

L = keras.layers


def net(width=3, named=True):
    names = ("a", "b") if named else (None, None)
    return keras.Sequential(
        [keras.Input((4,)), L.Dense(width, name=names[0]), L.Dense(2, name=names[1])], name="net"
    )


def square():
    """Two layers that only their names tell apart, and Keras counts on."""
    return keras.Sequential([keras.Input((3,)), L.Dense(3), L.Dense(3)], name="square")


GROUPS = {
    "bias": Group(optim.kind("bias"), lr_scale=0.5, weight_decay=0.0, frozen=True),
    "first": Group(
        "a/kernel", learning_rate=optim.OneCycle(0.1, total_steps=10), weight_decay=KernelDecay(0.1)
    ),
    "last": Group("b/kernel", learning_rate=0.01, optimizer=keras.optimizers.SGD(0.3, momentum=0.9)),
}


def through_json(plan):
    return SavedPlan.from_dict(json.loads(json.dumps(SavedPlan.of(plan).to_dict())))


def names_by_path(plan):
    return {v.path: name for name, v in plan.variables.items()}


def test_settings_survive():
    plan = partition(net(), GROUPS)
    model = net()
    found = through_json(plan).bind(model.trainable_variables)
    assert found.order == plan.order
    assert found.group_of == plan.group_of
    assert [id(v) for v in found.variables.values()] == [id(v) for v in model.trainable_variables]
    assert str(found) == str(plan)
    for name, group in plan.groups.items():
        again = found.groups[name]
        assert (again.lr_scale, again.frozen) == (group.lr_scale, group.frozen)
        assert again.weight_decay == group.weight_decay
    assert found.groups["first"].learning_rate.get_config() == GROUPS["first"].learning_rate.get_config()
    assert found.groups["last"].learning_rate == 0.01
    assert found.groups["last"].optimizer.get_config()["momentum"] == 0.9


def test_its_filters_find_the_same_variables():
    found = through_json(partition(net(), GROUPS)).bind(net().trainable_variables)
    assert partition(net(), found.groups).group_of == found.group_of


def test_variables_are_told_by_their_paths():
    plan = partition(net(), GROUPS)
    model = net()
    found = through_json(plan).bind(model.trainable_variables[::-1])
    assert names_by_path(found) == names_by_path(plan)
    assert found.order == plan.order


def test_variables_with_other_paths_are_told_by_their_order():
    plan = partition(net(named=False), {"all": "*"})
    model = net(named=False)  # Keras counts on: dense_2, dense_3
    assert not set(names_by_path(plan)) & {v.path for v in model.trainable_variables}
    found = through_json(plan).bind(model.trainable_variables)
    assert [id(v) for v in found.variables.values()] == [id(v) for v in model.trainable_variables]


def test_a_model_without_its_own_name_in_the_paths():
    plan, model = partition(net(), GROUPS), net()
    for layer in model.layers:
        for variable in layer.weights:
            variable._path = variable.path.removeprefix("net/")
    found = through_json(plan).bind(model.trainable_variables[::-1])
    assert {name: v.path for name, v in found.variables.items()} == {name: name for name in plan.order}


@pytest.mark.parametrize("named", [True, False])
def test_what_did_not_train_may_be_missing(named):
    model, other = net(named=named), net(named=named)
    plan = partition(model, {"all": lambda info: True})
    model.layers[0].trainable = other.layers[0].trainable = False
    saved = through_json(plan)
    found = saved.bind(other.trainable_variables)
    assert found.order == plan.order[2:]
    assert [id(v) for v in found.variables.values()] == [id(v) for v in other.trainable_variables]
    # Once they train, all are there.
    other.layers[0].trainable = True
    assert SavedPlan.of(found, saved).bind(other.trainable_variables).order == plan.order
    model.layers[0].trainable = True
    with pytest.raises(ValueError, match="4 were saved, .*, and it is built over 2"):
        through_json(plan).bind(other.trainable_variables[2:])


def test_variables_that_are_not_the_plans_are_passed_over():
    model = net()
    model.layers[0].trainable = False
    plan = partition(model, {"all": lambda info: info.variable.trainable})
    assert through_json(plan).bind(net().trainable_variables).order == ("b/kernel", "b/bias")


def test_names_come_before_paths_and_order():
    """A class that assigns its layers in another order gets each one's settings all the same."""
    plan = through_json(partition(square(), {"first": "dense/", "second": "dense_1"}))
    variables = square().trainable_variables
    swapped = dict(zip(["dense_1/kernel", "dense_1/bias", "dense/kernel", "dense/bias"], variables))
    found = plan.bind(variables, swapped)
    assert {name: id(v) for name, v in found.variables.items()} == {n: id(v) for n, v in swapped.items()}
    assert list(found.members["first"].values()) == variables[2:]


def test_an_order_that_leaves_a_choice_is_refused():
    plan = through_json(partition(square(), {"all": "*"}))
    match = (
        r"do not tell 'dense/kernel' from 'dense_1/kernel' .*of shape \(3, 3\).*`optimizer.build\(model\)`"
    )
    with pytest.raises(ValueError, match=match):
        plan.bind(square().trainable_variables)
    with pytest.raises(ValueError, match=match):
        plan.bind(square().trainable_variables, {"other/kernel": keras.Variable(1.0)})


def test_variables_of_another_model():
    config = through_json(partition(net(), GROUPS))
    match = (
        r"`variables` are not those of the optimizer's plan: 4 were saved, a/kernel \(4, 3\), a/bias \(3,\), "
        r"b/kernel \(3, 2\) and 1 more, and it is built over 4, net/a/kernel \(4, 5\), .* and 1 more. Make a"
    )
    with pytest.raises(ValueError, match=match):
        config.bind(net(width=5).trainable_variables)
    with pytest.raises(ValueError, match="4 were saved, .*, and it is built over 3"):
        config.bind(net().trainable_variables[:3])


def test_a_schedule_and_an_optimizer_of_ones_own():
    class Halved(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5

        def get_config(self):
            return {}

    class Mine(keras.optimizers.SGD):
        pass

    plan = partition(net(), {"all": Group("*", learning_rate=Halved(), optimizer=Mine())})
    own = {"Halved": Halved, "Mine": Mine}
    found = SavedPlan.from_dict(SavedPlan.of(plan).to_dict(), own).groups["all"]
    assert isinstance(found.learning_rate, Halved)
    assert isinstance(found.optimizer, Mine)
