"""What a step trains: the names of its variables, and the plan of its optimizer."""

import keras
import pytest

from gradloop import loops, optim
from gradloop.loops.step.trainable import names_of, plan_of


@pytest.fixture
def model():
    layers = [keras.layers.Dense(2, name=name) for name in ("body", "head")]
    return keras.Sequential([keras.Input((2,)), *layers])


def test_names_are_in_the_models_order(model):
    step = loops.TrainStep(model, "mse", "sgd", variables=["head", "body/kernel"])
    assert names_of(step, step.variables[::-1]) == ["body/kernel", "head/kernel", "head/bias"]
    assert names_of(step, []) == []


@pytest.mark.parametrize("scaled", [False, True])
def test_the_plan_is_that_of_the_optimizer(model, scaled):
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(0.1), optim.partition(model, {"all": "*"}))
    own = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    assert plan_of(loops.TrainStep(model, "mse", own)) is optimizer.plan


def test_other_optimizers_have_none(model):
    assert plan_of(loops.TrainStep(model, "mse", "adam")) is None


def test_the_plan_of_an_optimizer_from_a_file_is_of_the_model(model):
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(0.1), optim.partition(model, {"all": "*"}))
    again = optim.GroupedOptimizer.from_config(optimizer.get_config())
    plan = plan_of(loops.TrainStep(model, "mse", again))
    assert list(map(id, plan.variables.values())) == list(map(id, model.trainable_variables))
