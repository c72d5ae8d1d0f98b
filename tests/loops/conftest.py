"""What tests of whole runs share: small problems to train on, and how two runs are compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from tests.tolerance import rounding

CLOSE = rounding()  # of what is logged, whatever the dtype of the model


class Problem:
    """Three classes: 22 examples in batches of 5, the last one short, and a model with a BatchNorm."""

    loss = "sparse_categorical_crossentropy"

    def __init__(self) -> None:
        random = np.random.RandomState(0)
        self.x = random.rand(22, 4).astype("float32")
        self.y = random.randint(0, 3, 22)
        self.weight = random.rand(22).astype("float32")

    def model(self) -> keras.Model:
        keras.utils.set_random_seed(11)
        return keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(5, "tanh"),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(3, "softmax"),
            ]
        )

    def step(self, rate: float = 0.1, metrics: Any = ("accuracy",), **options: Any) -> loops.TrainStep:
        optimizer = keras.optimizers.SGD(rate)
        return loops.TrainStep(self.model(), self.loss, optimizer, metrics=metrics, **options)

    def data(self, x: Any = None, y: Any = None, **options: Any) -> loops.Batches:
        """In the order of the examples; `x` and `y` may be others than its own."""
        x, y = self.x if x is None else x, self.y if y is None else y
        return loops.Batches(x, y, 5, shuffle=False, **options)

    def dataset(self, *arrays: Any) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(arrays or (self.x, self.y)).batch(5)

    def generated(self) -> tf.data.Dataset:
        """The same batches, of which nobody knows how many there are."""

        def generate() -> Any:
            for first in range(0, 22, 5):
                yield self.x[first : first + 5], self.y[first : first + 5]

        specs = (tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.int64))
        return tf.data.Dataset.from_generator(generate, output_signature=specs)


class Tiny:
    """Two layers, and 12 examples in shuffled batches of 4: for what does not depend on the numbers."""

    x = np.random.RandomState(0).rand(12, 3).astype("float32")
    y = np.zeros((12, 2), "float32")

    def model(self, units: int = 2) -> keras.Model:
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, name="body"), keras.layers.Dense(units, name="head")]
        )

    def step(self, units: int = 2, optimizer: Any = "adam", **options: Any) -> loops.TrainStep:
        return loops.TrainStep(self.model(units), "mse", optimizer, **options)

    def grouped_step(self) -> loops.TrainStep:
        model = self.model()
        plan = optim.partition(model, {"body": optim.Group("body", lr_scale=0.5), "head": "head"})
        return loops.TrainStep(model, "mse", optim.GroupedOptimizer(keras.optimizers.Adam(), plan))

    def data(self, batch_size: int = 4, **options: Any) -> loops.Batches:
        return loops.Batches(self.x, self.y, batch_size, **options)

    def dataset(self) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((self.x, self.y)).shuffle(12, seed=1).batch(2)


class Logits:
    """Three classes by their logits: 64 examples with weights, and two models, one with a BatchNorm."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.x = random.normal(size=(64, 6)).astype("float32")
        self.y = random.integers(0, 3, size=64)
        self.weight = random.uniform(0.1, 2.0, size=64).astype("float32")

    def dense_model(self) -> keras.Model:
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, "tanh", kernel_regularizer="l2", name="hidden"),
                keras.layers.Dense(3, name="head"),
            ]
        )

    def norm_model(self) -> keras.Model:
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, use_bias=False, name="hidden"),
                keras.layers.BatchNormalization(name="norm"),
                keras.layers.ReLU(),
                keras.layers.Dense(3, name="head"),
            ]
        )

    def crossentropy(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def batches(self) -> Iterator[tuple[Any, Any, Any]]:
        """Batches of 16 with their weights, again and again."""
        for number in range(1000):
            part = slice(number % 4 * 16, number % 4 * 16 + 16)
            yield self.x[part], self.y[part], self.weight[part]


@pytest.fixture
def problem() -> Problem:
    return Problem()


@pytest.fixture
def tiny() -> Tiny:
    return Tiny()


@pytest.fixture(scope="session")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run of two epochs, which nobody changes."""
    tiny, folder = Tiny(), tmp_path_factory.mktemp("run") / "kept"
    loops.train(tiny.step(), tiny.data(), epochs=2, checkpoint=folder)
    return folder


@pytest.fixture
def kept(two_epochs: Path, tmp_path: Path) -> Path:
    """A folder of one's own with the checkpoints of a run of two epochs."""
    return Path(shutil.copytree(two_epochs, tmp_path / "kept"))


@pytest.fixture
def logits() -> Logits:
    return Logits()


@pytest.fixture
def assert_same_weights() -> Callable[..., None]:
    """Compares two models: `assert_same_weights(one, other, atol=0.0)`."""

    def assert_same(one: keras.Model, other: keras.Model, atol: float = CLOSE, rtol: float = 0.0) -> None:
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)

    return assert_same


@pytest.fixture
def assert_same_logs() -> Callable[..., None]:
    """Compares two histories, value by value."""

    def assert_same(ours: Any, theirs: Any, rel: float = 2 * CLOSE) -> None:
        assert set(ours.history) == set(theirs.history)
        for name, values in theirs.history.items():
            np.testing.assert_allclose(ours.history[name], values, rtol=rel, atol=2 * CLOSE, err_msg=name)

    return assert_same


@pytest.fixture
def run_all() -> Callable[..., None]:
    """Trains on all examples in their order, in batches of 8: `run_all(step, source, x, y)`."""

    def run_all(step: loops.TrainStep, source: str, x: Any, y: Any) -> None:
        if source == "call":
            for start in range(0, len(x), 8):
                step(x[start : start + 8], y[start : start + 8])
        elif source == "arrays":
            step.run(iter(loops.Batches(x, y, 8, shuffle=False)), len(x) // 8)
        else:
            step.run(iter(tf.data.Dataset.from_tensor_slices((x, y)).batch(8)), len(x) // 8)

    return run_all
