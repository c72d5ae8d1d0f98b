"""What tests of a log share: a small run with everything on, and how its files are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim


class Digits:
    """Three classes of 8x8 images, of which a small convolution learns some: 20 examples, 4 batches."""

    def __init__(self) -> None:
        random = np.random.RandomState(0)
        self.x = random.rand(20, 8, 8, 1).astype("float32")
        self.y = random.randint(0, 3, 20)
        self.x[np.arange(20), self.y] += 0.5
        self.x /= self.x.max()

    def model(self) -> keras.Model:
        keras.utils.set_random_seed(2)
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
                keras.layers.GlobalMaxPooling2D(),
                keras.layers.Dropout(0.2),
                keras.layers.Dense(3, "softmax", name="head"),
            ]
        )

    def step(self, model: Any = None, loss: Any = "sparse_categorical_crossentropy") -> loops.TrainStep:
        optimizer = keras.optimizers.SGD(0.1)
        return loops.TrainStep(model or self.model(), loss, optimizer, metrics=["accuracy"])

    def data(self) -> loops.Batches:
        return loops.Batches(self.x, self.y, 5)

    def validation(self) -> loops.Batches:
        """The examples in another order, from the last to the first."""
        return loops.Batches(self.x[::-1], self.y[::-1], 8, shuffle=False)


class Logged:
    """A run of two epochs with everything on that costs no profiler."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.digits = folder, Digits()
        model = self.digits.model()
        plan = optim.partition(model, {"body": "conv", "head": optim.Group("head", lr_scale=0.5)})
        optimizer = optim.GroupedOptimizer(keras.optimizers.SGD(0.1), plan)
        loss = "sparse_categorical_crossentropy"
        self.step = loops.TrainStep(model, loss, optimizer, metrics=["accuracy"])
        board = loops.TensorBoard(
            folder, images=3, hparams={"rate": np.float32(0.1), "net": "small", "plain": True}
        )
        self.history = loops.train(
            self.step,
            self.digits.data(),
            epochs=2,
            validation=self.digits.validation(),
            callbacks=[board],
        ).history

    def values(self, run: str, tag: str = "") -> dict[str, list[tuple[int, Any]]]:
        return values_in(self.folder / run, tag)


def events_in(folder: Path) -> list[Any]:
    """The events of all files of a folder, in their order."""
    files = [str(path) for path in sorted(folder.iterdir()) if path.is_file()]
    records = tf.data.TFRecordDataset(files).as_numpy_iterator()
    return [tf.compat.v1.Event.FromString(record) for record in records]


def values_in(folder: Path, tag: str = "") -> dict[str, list[tuple[int, Any]]]:
    """Tag -> step and `Summary.Value` of each, of the tags that begin with `tag`."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for event in events_in(folder):
        for value in event.summary.value:
            if value.tag.startswith(tag):
                found.setdefault(value.tag, []).append((event.step, value))
    return found


def picture_of(value: Any) -> Any:
    """The only picture of an image value: uint8, (height, width, channels)."""
    width, height, png = value.tensor.string_val
    picture = tf.io.decode_png(png).numpy()
    assert picture.shape == (int(height), int(width), 3)
    return picture


@pytest.fixture
def digits() -> Digits:
    return Digits()


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return Logged(tmp_path_factory.mktemp("logged"))
