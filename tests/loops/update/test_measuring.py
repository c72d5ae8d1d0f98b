"""An `Update` measures its call where it is asked to: eagerly, in a function, in a replicated step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from tests.loops.step.watched import X, Y, by_hand, grouped, model, plain
from tests.tolerance import rounding

RUNS: list[Callable[[Any], Any]] = [lambda step: step, tf.function, loops.replicated]


def step_of(network: keras.Model, update: loops.Update) -> Callable[..., dict[str, tf.Tensor]]:
    def step(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            each = keras.losses.sparse_categorical_crossentropy(y, network(x, training=True), True)
            loss = loops.mean_loss(each)
            scaled = update.scale_loss(loss)
        return update.measured(tape.gradient(scaled, [v.value for v in update.variables]), loss)

    return step


def found_in(step: Callable[..., Any], steps: int) -> dict[int, dict[str, float]]:
    parts = [slice(number % 3 * 8, number % 3 * 8 + 8) for number in range(steps)]
    each = [step(tf.constant(X[part]), tf.constant(Y[part])) for part in parts]
    return {number: {tag: float(v) for tag, v in one.items()} for number, one in enumerate(each, 1)}


def assert_equal(found: dict[str, float], expected: dict[str, float]) -> None:
    assert set(found) == set(expected)
    for tag, value in found.items():
        np.testing.assert_allclose(value, expected[tag], rounding(), err_msg=tag)


@pytest.mark.numbers
@pytest.mark.parametrize("run", RUNS, ids=["eager", "function", "replicated"])
def test_a_call_is_measured(run: Callable[[Any], Any]) -> None:
    network = model()
    optimizer = keras.optimizers.LossScaleOptimizer(plain(network))
    update = loops.Update(optimizer, network.trainable_variables, clip_norm=0.3)
    found = found_in(run(step_of(network, update)), 3)
    assert [each.pop("loss_scale/all") for each in found.values()] == [2.0**15] * 3
    for number, expected in by_hand(3, clip=0.3).items():
        assert_equal(found[number], expected)


@pytest.mark.numbers
@pytest.mark.parametrize("run", RUNS[:2], ids=["eager", "function"])
def test_frozen_groups_are_no_numbers(run: Callable[[Any], Any]) -> None:
    network = model()
    optimizer = grouped(network)
    optimizer.freeze("body")
    step = run(step_of(network, loops.Update(optimizer, network.trainable_variables)))
    found, expected = found_in(step, 3)[3], by_hand(4, unfreezes=True)
    nan = {tag for tag, value in found.items() if np.isnan(value)}
    assert nan == {f"{q}/body" for q in ("rate", "grad_norm", "weight_norm", "update_ratio")}
    assert_equal({tag: value for tag, value in found.items() if tag not in nan}, expected[3])
    optimizer.unfreeze("body")
    assert_equal(found_in(step, 1)[1], expected[4])


def test_a_variable_may_have_the_name_of_another_group() -> None:
    network = model()
    plan = optim.partition(network, {"head": "body", "body": "head"})
    optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(0.5), plan)
    variables = {name: network.get_layer(name).kernel for name in ("head", "body")}
    update = loops.Update(optimizer, variables)
    found = update.measured([tf.zeros(variables["head"].shape), tf.ones(variables["body"].shape)])
    assert float(found["grad_norm/body"]) == 0.0  # of the group, in which is the head's kernel
    np.testing.assert_allclose(float(found["grad_norm/head"]), np.sqrt(20), rounding())


def test_a_call_without_an_update_is_no_number() -> None:
    weight = keras.Variable([1.0, 2.0])
    waits = loops.Update(keras.optimizers.SGD(0.5), [weight], accumulate=2)
    skips = loops.Update(keras.optimizers.SGD(0.5), [weight], on_nonfinite="skip")
    found = waits.measured([tf.constant([1.0, 0.0])])
    assert np.isnan(float(found["grad_norm/all"])) and float(found["skipped/all"]) == 0.0
    np.testing.assert_allclose(float(waits.measured([tf.constant([3.0, 0.0])])["grad_norm/all"]), 2.0)
    found = skips.measured([tf.constant([np.nan, 0.0])])
    assert np.isnan(float(found["grad_norm/all"])) and float(found["skipped/all"]) == 1.0
    assert float(skips.measured([tf.constant([3.0, 4.0])])["grad_norm/all"]) == 5.0


def test_sparse_gradients_and_weights_of_zero() -> None:
    table = keras.Variable(np.zeros((4, 2), "float32"), name="table")
    update = loops.Update(keras.optimizers.SGD(0.5), [table])
    slices = tf.IndexedSlices(
        tf.constant([[3.0, 0.0], [0.0, 4.0], [3.0, 0.0]]), tf.constant([1, 2, 1]), tf.constant([4, 2])
    )
    found = {tag: float(value) for tag, value in update.measured([slices]).items()}
    assert found["grad_norm/all"] == np.hypot(6.0, 4.0) and found["weight_norm/all"] == 0.0
    assert np.isnan(found["update_ratio/all"]), "a change of nothing is no share"


def test_what_a_float8_layer_writes_is_left_out() -> None:
    kernel, scale = keras.Variable([3.0, 4.0]), keras.Variable([1.0])
    scale.overwrite_with_gradient = True
    for variables in ({"kernel": kernel, "scale": scale}, {"scale": scale}):
        update = loops.Update(keras.optimizers.SGD(0.5), variables)
        found = update.measured([tf.ones_like(v.value) * 7.0 for v in variables.values()])
        expected = 7.0 * np.sqrt(2.0) if len(variables) == 2 else np.nan
        np.testing.assert_allclose(float(found["grad_norm/all"]), expected, 1e-6)
    assert float(scale.numpy()[0]) == 7.0
