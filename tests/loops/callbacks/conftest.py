"""What tests of unfreezing share: a model of named layers, and which each epoch moved; and bars' clock."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from gradloop import loops, optim
from gradloop.loops.callbacks import progress_bar, progress_display
from tests.loops.callbacks.progress import Clock


class Layered:
    """A model of named layers, whose epochs of four steps tell which of them moved."""

    def __init__(self) -> None:
        random = np.random.RandomState(0)
        self.x = random.rand(20, 4).astype("float32")
        self.y = random.rand(20, 2).astype("float32")

    def model(self) -> keras.Model:
        keras.utils.set_random_seed(3)
        return keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(5, "tanh", name="stem"),
                keras.layers.BatchNormalization(name="norm"),
                keras.layers.Dense(4, "tanh", name="body"),
                keras.layers.Dense(2, name="head"),
            ]
        )

    def step(self, model: Any = None, optimizer: Any = None, **options: Any) -> loops.TrainStep:
        optimizer = optimizer or keras.optimizers.SGD(0.1)  # the fewest operations to trace
        return loops.TrainStep(model or self.model(), "mse", optimizer, **options)

    def data(self) -> loops.Batches:
        return loops.Batches(self.x, self.y, 5, shuffle=False)

    def watch(self) -> Moved:
        """A callback, for runs that need others in an order of their own."""
        return Moved()

    def moved(self, unfreeze: loops.Unfreeze, epochs: int = 4, step: Any = None) -> list[set[str]]:
        """Trains, and returns the names of the layers that each epoch moved."""
        moved = self.watch()
        loops.train(step or self.step(), self.data(), epochs=epochs, callbacks=[unfreeze, moved])
        return moved.epochs

    def losses(self, values: Any) -> keras.callbacks.Callback:
        """A callback that writes what `val_loss` is to be into the logs."""
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(val_loss=values[epoch])
        )


class Moved(keras.callbacks.Callback):
    """Which weights each epoch moved, by the names of their layers."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[set[str]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._before = self._weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        after = self._weights()
        names = {n.split("/")[0] for n, w in after.items() if not np.array_equal(w, self._before[n])}
        self.epochs.append(names)

    def _weights(self) -> dict[str, Any]:
        return {name: v.numpy() for name, v in optim.named_variables(self.model).items()}


@pytest.fixture
def layered() -> Layered:
    return Layered()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The seconds of progress bars, which pass when a test says so."""
    clock = Clock()
    for module in (progress_bar, progress_display):
        monkeypatch.setattr(module, "time", clock)
    return clock
