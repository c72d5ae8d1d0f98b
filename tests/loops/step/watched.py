"""What a watched step must have measured: a loop by hand, a tape and NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.step.watch import Measured

RANDOM = np.random.RandomState(0)
X, Y = RANDOM.rand(24, 5), RANDOM.randint(0, 3, 24)
GROUPS = {"body": optim.Group("body", lr_scale=0.5), "head": "head"}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Seen(loops.StepsCallback):
    """Keeps what was measured, by number of the step."""

    def __init__(self, **wanted: Any) -> None:
        super().__init__()
        self.wanted = loops.Watch(**wanted)
        self.seen: dict[int, Measured] = {}

    def watch(self) -> loops.Watch:
        return self.wanted

    def on_measured(self, number: int, measured: Measured) -> None:
        assert number not in self.seen
        self.seen[number] = measured


class Unfreeze(keras.callbacks.Callback):
    """`body` is frozen for one epoch."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        change = self.model.optimizer.unfreeze if epoch else self.model.optimizer.freeze
        change("body")


def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    body = keras.layers.Dense(4, "tanh", name="body")
    return keras.Sequential([keras.Input((5,)), body, keras.layers.Dense(3, name="head")])


def plain(_: keras.Model) -> keras.optimizers.Optimizer:
    rate = keras.optimizers.schedules.InverseTimeDecay(0.5, 1, 0.5)
    return keras.optimizers.SGD(rate, momentum=0.9)


def grouped(model: keras.Model) -> keras.optimizers.Optimizer:
    return optim.GroupedOptimizer(keras.optimizers.SGD(0.5), optim.partition(model, GROUPS))


def data() -> loops.Batches:
    return loops.Batches(X, Y, 8, shuffle=False)


def norm(values: Sequence[Any]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(np.asarray(value, np.float64))) for value in values)))


def by_hand(
    steps: int, accumulate: int = 1, clip: float | None = None, unfreezes: bool = False, scale: float = 1.0
) -> dict[int, dict[str, float]]:
    """Number of each update's step -> what is measured of it, by group: of a plan if one `unfreezes`."""
    network = model()
    optimizer = grouped(network) if unfreezes else plain(network)
    found, waiting = {}, []
    for number in range(1, steps + 1):
        part = slice((number - 1) % 3 * 8, (number - 1) % 3 * 8 + 8)
        groups = {"all": network.trainable_variables}
        if unfreezes:
            groups = {name: network.get_layer(name).trainable_variables for name in ("body", "head")}
            if number <= 3:
                del groups["body"]
        variables = [variable for each in groups.values() for variable in each]
        with tf.GradientTape() as tape:
            loss = LOSS(Y[part], network(X[part], training=True)) * scale
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        waiting.append([gradient.numpy() / scale for gradient in gradients])
        if len(waiting) < accumulate:
            continue
        means = dict(zip(map(id, variables), (np.mean(each, 0) for each in zip(*waiting))))
        waiting, before = [], {id(v): v.numpy() for v in variables}
        total = norm(list(means.values()))
        factor = 1.0 if clip is None else min(1.0, clip / total)
        rate = float(optimizer.learning_rate)
        optimizer.apply([tf.constant(means[id(v)] * factor, v.dtype) for v in variables], variables)
        now = {"grad_norm/all": total, "clipped/all": float(factor < 1), "skipped/all": 0.0}
        for group, those in groups.items():
            now[f"rate/{group}"] = rate * (0.5 if group == "body" else 1.0)
            now[f"grad_norm/{group}"] = norm([means[id(v)] for v in those])
            now[f"weight_norm/{group}"] = norm([before[id(v)] for v in those])
            change = norm([v.numpy() - before[id(v)] for v in those])
            now[f"update_ratio/{group}"] = change / now[f"weight_norm/{group}"]
        found[number] = now
    return found


def assert_equal(seen: dict[int, Measured], expected: dict[int, dict[str, float]], rtol: float) -> None:
    assert list(seen) == sorted(expected)
    for number, measured in seen.items():
        assert set(measured.scalars) == set(expected[number])
        for tag, value in measured.scalars.items():
            np.testing.assert_allclose(value, expected[number][tag], rtol, 1e-12, err_msg=f"{number} {tag}")
