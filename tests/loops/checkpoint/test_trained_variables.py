"""What trains, written down and chosen again."""

import json

import keras
import pytest

from gradloop import loops, optim
from gradloop.loops.checkpoint.tensor_file import TensorFile, in_memory, write_state
from gradloop.loops.checkpoint.trained_variables import (
    check_trained_variables,
    train_as_saved,
    trained_variables_of,
)


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="body"), keras.layers.Dense(2, name="head")]
    )


def grouped():
    network = model()
    groups = {"body": optim.Group("body"), "head": optim.Group("head", learning_rate=0.1)}
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(), optim.partition(network, groups))
    return loops.TrainStep(network, "mse", optimizer)


def names(step):
    return ["/".join(variable.path.split("/")[-2:]) for variable in step.variables]


def file_of(step, path):
    values = {name: variable.numpy() for name, variable in step.state().items()}
    write_state(str(path), in_memory(values), {"choice": trained_variables_of(step)})
    return TensorFile(str(path))


def test_what_trained_trains_again():
    first, again = grouped(), grouped()
    first.optimizer.freeze("head")
    first.optimizer.rescale("body", 0.25)
    first.optimizer.set_learning_rate("head", 0.02)
    first.train_only("kernel")
    again.optimizer.freeze("body")
    train_as_saved(again, json.loads(json.dumps(trained_variables_of(first))))
    assert names(again) == ["body/kernel"]
    assert again.optimizer.learning_rates == first.optimizer.learning_rates
    again.optimizer.unfreeze("head")
    assert names(again) == ["body/kernel", "head/kernel"]


def test_a_choice_that_is_in_force_changes_nothing():
    step = loops.TrainStep(model(), "mse", "sgd", variables="head", accumulate=2)
    x, y = [[1.0, 2.0, 3.0]], [[0.0, 0.0]]
    step(x, y)
    before = {name: variable.numpy() for name, variable in step.state().items()}
    train_as_saved(step, trained_variables_of(step))
    step_state = step.state()
    assert abs(before["accumulated/head/kernel"]).max() > 0
    assert (step_state["accumulated/head/kernel"].numpy() == before["accumulated/head/kernel"]).all()


def test_a_layer_that_cannot_train_any_more_is_named(tmp_path):
    other = model()
    other.get_layer("body").trainable = False
    file = file_of(loops.TrainStep(model(), "mse", "adam"), tmp_path / "state")
    with pytest.raises(ValueError, match="trained body/kernel, body/bias, which the model cannot"):
        check_trained_variables(loops.TrainStep(other, "mse", "adam"), file)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (grouped, "`optimizer` has the groups body, head, and the checkpoint .* was made with none"),
        (lambda: loops.TrainStep(model(), "mse", "adam", accumulate=2), "`accumulate` is 2, and .* with 1"),
    ],
)
def test_another_plan_or_accumulation_is_refused(make, message, tmp_path):
    file = file_of(loops.TrainStep(model(), "mse", "adam"), tmp_path / "state")
    with pytest.raises(ValueError, match=message):
        check_trained_variables(make(), file)


def test_a_choice_of_other_variables_is_no_obstacle(tmp_path):
    """Accumulated gradients are of what trained, which is chosen after the check."""
    first = loops.TrainStep(model(), "mse", "sgd", variables="head", accumulate=2)
    check_trained_variables(
        loops.TrainStep(model(), "mse", "sgd", accumulate=2), file_of(first, tmp_path / "state")
    )


def test_what_an_older_version_accumulated(tmp_path):
    """It did not save what each batch counts; right after an update that is nothing."""
    step, x, y = loops.TrainStep(model(), "mse", "sgd", accumulate=2), [[1.0, 2.0, 3.0]], [[0.0, 0.0]]
    for number in range(1, 3):
        step(x, y)
        file = file_of(step, tmp_path / f"state-{number}")
        del file.values["accumulated/total_weight"]
        if number == 1:
            with pytest.raises(ValueError, match="was written between two updates by an older version"):
                check_trained_variables(step, file)
    check_trained_variables(step, file)
    file.check(step.state())
    assert float(file.values["accumulated/total_weight"]) == 0.0
