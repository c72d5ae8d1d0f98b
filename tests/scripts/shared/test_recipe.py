"""The recipe of fine-tuning: rates, what moves, the cache, averages and the best epoch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from gradloop import loops, models, optim

from shared import augmentation
from shared.recipe import LOSS, Recipe, fine_tune, plan_of

L = keras.layers
QUICK = Recipe(epochs=2, head_epochs=1, batch_size=8, highest=1e-2, lowest=1e-4, runs=2, ema=0.5)


def network(seed: int = 0) -> Any:
    """Four layers with two normalizations under a head."""
    keras.utils.set_random_seed(seed)
    pixels = x = keras.Input((8, 8, 3))
    for number in (1, 2):
        x = L.Conv2D(4, 3, name=f"conv{number}")(x)
        x = L.BatchNormalization(name=f"norm{number}")(x)
        x = L.ReLU(name=f"relu{number}")(x)
    x = L.Dense(5, name="dense1")(x)
    x = L.Dense(5, name="dense2")(x)
    return models.classifier(keras.Model(pixels, x, name="net"), 2)


def images(count: int, seed: int = 0) -> tuple[Any, Any]:
    """Bright and dark ones."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    return (rng.integers(0, 128, (count, 8, 8, 3)) + 127 * y[:, None, None, None]).astype("uint8"), y


TRAIN, VALIDATION = images(24), images(16, seed=1)


def weights(model: Any) -> dict[str, Any]:
    return {name: v.numpy() for name, v in optim.named_variables(model).items()}


def test_rates_are_geometric_and_normalizations_frozen() -> None:
    model = network()
    plan = plan_of(model, model.trainable_variables, dataclasses.replace(QUICK, runs=2, weight_decay=0.1))
    scales = {name: group.lr_scale for name, group in plan.groups.items() if not group.frozen}
    assert list(scales) == ["body_1", "body_2", "head"]
    np.testing.assert_allclose(list(scales.values()), np.geomspace(1e-2, 1, 3))
    assert set(plan.members["body_1"]) == {f"conv{n}/{kind}" for n in "12" for kind in ("kernel", "bias")}
    assert set(plan.members["rest"]) == {f"norm{n}/{kind}" for n in "12" for kind in ("gamma", "beta")}
    assert plan.groups["rest"].frozen
    decays = plan.groups["body_2"].weight_decay
    assert decays == optim.KernelDecay(0.1)


def test_more_runs_than_layers_and_a_head_alone() -> None:
    model = network()
    recipe = dataclasses.replace(QUICK, runs=9)
    plan = plan_of(model, optim.select(model, "dense", "head"), recipe)
    assert list(plan.groups) == ["body_1", "body_2", "head", "rest"]
    assert plan.groups["body_1"].lr_scale == pytest.approx(1e-2)
    alone = plan_of(model, optim.select(model, "head"), recipe)
    assert [name for name, group in alone.groups.items() if not group.frozen] == ["head"]


@pytest.mark.parametrize("where", ["head", pytest.param("dense|head", marks=pytest.mark.release), "*"])
def test_moves_what_trains_and_nothing_else(where: str) -> None:
    model = network()
    before = weights(model)
    trained = optim.select(model, *where.split("|"))
    fine_tune(model, trained, TRAIN, VALIDATION, QUICK, transform=augmentation.photos(["flip"], 8))
    moved = {name for name, value in weights(model).items() if not np.array_equal(value, before[name])}
    ids = {id(variable) for variable in trained}
    names = {name for name, v in optim.named_variables(model).items() if id(v) in ids}
    assert moved == {name for name in names if "norm" not in name}


def test_a_cache_gives_the_same(tmp_path: Path) -> None:
    found = []
    for cache in (None, "memory", tmp_path):
        model = network()
        history = fine_tune(
            model, optim.select(model, "dense", "head"), TRAIN, VALIDATION, QUICK, cache=cache
        )
        found.append((weights(model), history["val_accuracy"]))
    for values, accuracies in found[1:]:
        assert found[0][1] == accuracies
        for name, value in found[0][0].items():
            np.testing.assert_allclose(values[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("ema", [pytest.param(0.0, marks=pytest.mark.release), 0.9])
def test_keeps_the_best_epoch(ema: float, tmp_path: Path) -> None:
    # Such rates that later epochs are worse.
    recipe = dataclasses.replace(QUICK, epochs=4, head_epochs=0, highest=0.5, lowest=0.5, ema=ema)
    model = network()
    best = tmp_path / "best.weights.h5"
    history = fine_tune(model, model.trainable_variables, TRAIN, VALIDATION, recipe, best=best)
    test = loops.Batches(*VALIDATION, 16, shuffle=False)
    accuracy = loops.evaluate(loops.EvalStep(model, LOSS, ["accuracy"]), test)["accuracy"]
    assert accuracy == pytest.approx(max(history["val_accuracy"])) and not best.exists()


def test_averages_are_those_of_a_loop_by_hand() -> None:
    recipe = dataclasses.replace(QUICK, epochs=1, head_epochs=0, warmup=0.0)
    trained, by_hand = network(), network()
    fine_tune(trained, optim.select(trained, "head"), TRAIN, VALIDATION, recipe)
    head = optim.select(by_hand, "head")
    steps = len(TRAIN[1]) // recipe.batch_size
    schedule = keras.optimizers.schedules.CosineDecay(recipe.highest, steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.0)
    step = loops.TrainStep(by_hand, LOSS, optimizer, variables=head)
    average: list[Any] = []
    for x, y in loops.Batches(*TRAIN, recipe.batch_size, seed=recipe.seed):
        step(x, y)
        values = [variable.numpy() for variable in head]
        average = [0.5 * a + 0.5 * v for a, v in zip(average, values)] if average else values
    for variable, value in zip(optim.select(trained, "head"), average):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-7)


def test_unfreezing_reaches_the_first_layers_last(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = dataclasses.replace(QUICK, epochs=3, head_epochs=0, unfreeze="top-down")
    model = network()
    moved: list[set[str]] = []
    before = weights(model)

    def look(epoch: int, logs: Any) -> None:
        now = weights(model)
        moved.append({name.split("/")[0] for name in now if not np.array_equal(now[name], before[name])})

    callback = keras.callbacks.LambdaCallback(on_epoch_end=look)
    fine_tune(model, model.trainable_variables, TRAIN, VALIDATION, recipe, callbacks=[callback], log=print)
    assert moved[0] == {"head"}
    assert moved[1] == {"head", "dense1", "dense2"}
    assert moved[2] == {"head", "dense1", "dense2", "conv1", "conv2"}
    shown = capsys.readouterr()
    assert "body_1" in shown.out and "epoch 1" in shown.out + shown.err


def test_stages_of_ones_own_never_train_normalizations() -> None:
    recipe = dataclasses.replace(QUICK, head_epochs=0, unfreeze={0: "head", 1: "*"})
    model = network()
    said: list[Any] = []
    before = weights(model)
    fine_tune(model, optim.select(model, "head"), TRAIN, VALIDATION, recipe, log=said.append)
    moved = {name.split("/")[0] for name, value in weights(model).items() if (value != before[name]).any()}
    assert moved == {"conv1", "conv2", "dense1", "dense2", "head"}
    assert said[0].groups["body_1"].lr_scale == pytest.approx(1e-2)


STAGES = [
    ("head", "top-down", "here the head alone trains"),
    ("head|norm", "top-down", "here the head alone trains"),
    ("*", {0: "head", 1: "cnov1"}, "Did you mean 'conv1"),
    ("*", {0: "head", 1: "norm1"}, "none in common"),
]


@pytest.mark.parametrize(("where", "unfreeze", "message"), STAGES)
def test_stages_are_refused_before_the_head_is_trained(where: str, unfreeze: Any, message: str) -> None:
    model = network()
    before = weights(model)
    recipe = dataclasses.replace(QUICK, unfreeze=unfreeze)
    with pytest.raises(ValueError, match=message):
        fine_tune(model, optim.select(model, *where.split("|")), TRAIN, VALIDATION, recipe)
    for name, value in weights(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_the_best_epoch_of_another_run_is_not_taken(tmp_path: Path) -> None:
    best = tmp_path / "best.weights.h5"
    best.write_bytes(b"of a run that was killed")
    model = network()
    recipe = dataclasses.replace(QUICK, head_epochs=0)
    fine_tune(model, optim.select(model, "head"), TRAIN, VALIDATION, recipe, best=best)
    assert not best.exists()
