"""What tests of names and of the range test share: checked names, two steps, and what shows no trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf

from gradloop import loops, optim

L = keras.layers


@pytest.fixture
def names() -> Callable[[keras.Model], list[str]]:
    """A model's names, after checking what holds for every model: `names(model)`."""

    def names(model: keras.Model) -> list[str]:
        named = optim.named_variables(model)
        assert [id(v) for v in named.values()] == [id(v) for v in model.weights]
        assert [info.name for info in optim.variable_infos(model)] == list(named)
        return list(named)

    return names


@pytest.fixture
def quadratic() -> Callable[..., loops.TrainStep]:
    """A step that minimises `curvature / 2 * w ** 2` from w = 1, whatever the data."""

    def quadratic(curvature: float = 4.0, optimizer: Any = None) -> loops.TrainStep:
        model = keras.Sequential([keras.Input((1,)), L.Dense(1, use_bias=False, kernel_initializer="ones")])

        def loss(model: keras.Model, batch: Any) -> tf.Tensor:
            return curvature / 2 * tf.reduce_sum(model.weights[0] ** 2) + 0 * tf.reduce_sum(batch[0])

        return loops.TrainStep(model, loss, optimizer or keras.optimizers.SGD(0.123))

    return quadratic


@pytest.fixture
def busy_step() -> Callable[..., loops.TrainStep]:
    """A step with everything that one may write: statistics, seeds, a metric with state, sums."""

    def busy_step(optimizer: Any, **options: Any) -> loops.TrainStep:
        model = keras.Sequential(
            [
                keras.Input((6,)),
                L.Dense(8, name="hidden"),
                L.BatchNormalization(),
                L.Dropout(0.2, seed=1),
                L.Dense(1, "sigmoid", name="head", dtype="float32"),
            ]
        )
        metrics = ["accuracy", keras.metrics.AUC(name="auc")]
        return loops.TrainStep(model, "binary_crossentropy", optimizer, metrics=metrics, **options)

    return busy_step


def snapshot(step: loops.TrainStep) -> dict[str, bytes]:
    return {name: variable.numpy().tobytes() for name, variable in step.state().items()}


@pytest.fixture
def nothing_changes() -> Callable[[loops.TrainStep], contextlib.AbstractContextManager[None]]:
    """Checks a step's state and rate behind a block: `with nothing_changes(step):`."""

    @contextlib.contextmanager
    def nothing_changes(step: loops.TrainStep) -> Iterator[None]:
        before, rate = snapshot(step), step.optimizer.learning_rate.numpy()
        yield
        after = snapshot(step)
        assert list(after) == list(before)
        assert [name for name in after if after[name] != before[name]] == []
        assert step.optimizer.learning_rate.numpy() == rate

    return nothing_changes
