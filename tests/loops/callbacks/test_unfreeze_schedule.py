"""The stages of gradual unfreezing."""

import keras
import pytest

from gradloop import loops, optim
from gradloop.loops.callbacks.unfreeze_schedule import (
    check_base,
    check_end,
    is_unfreeze_state,
    resolve_stages,
    top_down,
)
from gradloop.loops.step.trainable import names_of


def _model(layers):
    dense = [keras.layers.Dense(2, name=f"layer{number}") for number in range(layers)]
    return keras.Sequential([keras.Input((2,)), *dense])


def _step(layers=3, optimizer=None, **options):
    return loops.TrainStep(_model(layers), "mse", optimizer or keras.optimizers.SGD(0.1), **options)


def _layers(step, stages):
    """The numbers of the layers that each stage adds, by its time."""
    found = {}
    for when, _, variables in resolve_stages(step, stages):
        names = names_of(step, variables)
        assert len(set(names)) == len(names) == len(variables)
        found[when] = sorted({int(name.split("/")[0].removeprefix("layer")) for name in names})
    return found


def test_the_top_begins_alone_and_longer_stages_are_those_below():
    found = _layers(step := _step(9), top_down(step, 2, 4))
    assert found == {0: [8], 2: [6, 7], 4: [3, 4, 5], 6: [0, 1, 2]}
    assert _layers(step, top_down(step, 1, 2)) == {0: [8], 1: list(range(8))}


@pytest.mark.parametrize("number", [3, 20, None])
def test_one_run_a_stage_where_there_is_time(number):
    step = _step(3)
    assert _layers(step, top_down(step, 5, number)) == {0: [2], 5: [1], 10: [0]}


def test_a_single_stage_is_everything():
    step = _step(3)
    assert _layers(step, top_down(step, 1, 1)) == {0: [0, 1, 2]}


def test_the_top_group_of_a_plan_begins_alone():
    model = _model(5)
    groups = {name: name for name in ("layer4", "layer1", "layer3", "layer0")}
    plan = optim.partition(model, {**groups, "layer2": optim.Group("layer2", frozen=True)})
    step = loops.TrainStep(model, "mse", optim.GroupedOptimizer(keras.optimizers.SGD(0.1), plan))
    assert top_down(step, 1, 2) == {0: ["layer4"], 1: ["layer0", "layer1", "layer3"]}


def test_a_stage_is_empty_only_as_a_whole():
    """As `select` is: a group or another filter beside a class that the model has not."""
    model = _model(3)
    plan = optim.partition(model, {"top": "layer2", "rest": ~optim.name("layer2")})
    step = loops.TrainStep(model, "mse", optim.GroupedOptimizer(keras.optimizers.SGD(0.1), plan))
    none = keras.layers.Conv2D
    assert _layers(step, {0: ["top", none], 1: ["layer1", none, "top"]}) == {0: [2], 1: [1, 2]}
    with pytest.raises(optim.SelectionError, match=r"layer_type\(Conv2D\) matches none"):
        resolve_stages(step, {0: [none]})
    with pytest.raises(optim.SelectionError, match="'layre1'.* matches none"):
        resolve_stages(step, {0: ["top", "layre1"]})


@pytest.mark.parametrize("scaled", [False, True])
def test_an_optimizer_without_state_for_a_stage(scaled):
    step = _step(3)
    optimizer = keras.optimizers.Adam()
    optimizer.build(optim.select(step.model, "layer1", "layer2"))
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    step = loops.TrainStep(step.model, "mse", optimizer)
    assert _layers(step, {0: "layer2", 3: "layer1"}) == {0: [2], 3: [1]}
    with pytest.raises(ValueError, match="everything from time 4 on.*without layer0/kernel, layer0/bias,"):
        resolve_stages(step, {0: "layer2", 4: all})


@pytest.mark.parametrize("built", [False, True])
def test_an_optimizer_that_knows_all(built):
    step = _step(2)
    optimizer = keras.optimizers.Adam()
    if built:
        optimizer.build(step.model.trainable_variables)
    step = loops.TrainStep(step.model, "mse", optimizer)
    assert _layers(step, {0: "layer1", 1: all}) == {0: [1], 1: [0, 1]}
    assert optimizer.built == built


def test_names_that_a_model_cannot_train():
    step = _step(2)
    check_base(step, ["layer1/bias", "layer0/kernel"], False)
    with pytest.raises(ValueError, match="began with layer7/bias, which the model cannot train"):
        check_base(step, ["layer1/bias", "layer7/bias"], False)
    step.model.get_layer("layer1").trainable = False
    with pytest.raises(ValueError, match="began with layer1/bias"):
        check_base(step, ["layer1/bias"], True)
    check_base(step, [], True)
    with pytest.raises(ValueError, match="begins with a stage at time 0, and `stages` has none"):
        check_base(step, [], False)


def test_a_stage_after_the_end():
    check_end({0: "head", 4: all}, "epoch", 5)
    with pytest.raises(ValueError, match="everything from epoch 4 on.*after 4 epochs"):
        check_end({0: "head", 4: all}, "epoch", 4)


STATE = {"base": ["head/bias"], "span": [3, 2], "plateau": None}


def test_what_can_be_a_state():
    assert is_unfreeze_state(STATE, True, False)
    assert is_unfreeze_state({**STATE, "base": None, "span": None}, True, False)
    assert is_unfreeze_state({**STATE, "base": [], "span": None, "plateau": {}}, False, True)


@pytest.mark.parametrize(
    "change",
    [
        {"base": "head/bias"},
        {"base": [3]},
        {"base": {"head/bias": 1}},
        {"span": [-1, 2]},
        {"span": [1.5, 2]},
        {"span": [True, 2]},
        {"span": [3, 0]},
        {"span": [3, "2"]},
        {"span": [3]},
        {"span": 3},
        {"plateau": {}},
        {"more": 1},
    ],
)
def test_what_cannot_be_a_state(change):
    assert not is_unfreeze_state({**STATE, **change}, True, False)
    assert not is_unfreeze_state(STATE, False, False)
    assert not is_unfreeze_state({**STATE, "span": None}, False, True)
    assert not is_unfreeze_state({"base": None, "plateau": None}, True, False)
