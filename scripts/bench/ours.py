"""gradloop itself: with everything on that a user watches a run with, and with all of it off."""

from __future__ import annotations

import tempfile

import keras
import numpy as np

from gradloop import loops

from . import keras_networks
from .case import LEARNING_RATE, Case


class EpochLosses(keras.callbacks.Callback):
    """An ordinary Keras callback, which collects the loss and the accuracy of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch_logs: list[tuple[float, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        values = logs or {}
        self.epoch_logs.append((values["loss"], values["accuracy"]))


class Gradloop(keras_networks.KerasContender):
    """`loops.train` over `Batches`, one call a block.

    With everything on, each block begins and ends a progress bar (its text goes to the worker's
    standard error, a file), a TensorBoard writer with the scalars of every step, and a callback.
    """

    def __init__(
        self, case: Case, images: np.ndarray, labels: np.ndarray, *, callback: EpochLosses | None = None
    ) -> None:
        self.keras = keras
        self.model = keras_networks.build(keras, case.network)
        self.step = loops.TrainStep(
            self.model,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            keras.optimizers.SGD(LEARNING_RATE),
            metrics=() if callback is None else ["accuracy"],
        )
        self.data = loops.Batches(images, labels, case.batch_size)
        self.callback = callback
        self.logs = tempfile.TemporaryDirectory(prefix="gradloop-bench-")
        self.steps = self.blocks = 0

    def block(self, steps: int) -> None:
        callbacks: list[keras.callbacks.Callback] = []
        if self.callback is not None:
            # What is written once a run, and what watched steps cost, is in the part `watching`.
            board = loops.TensorBoard(self.logs.name, watch=None, graph=False)
            callbacks = [loops.ProgressBar(), board, self.callback]
        loops.train(self.step, self.data, epochs=1, steps_per_epoch=steps, callbacks=callbacks)
        self.steps += steps
        self.blocks += 1

    def loss(self, images: np.ndarray, labels: np.ndarray) -> float:
        # Asked for at the end, so here is where to see that nothing was left out on the way.
        updates = int(self.step.optimizer.iterations.numpy())
        epochs = self.blocks if self.callback is None else len(self.callback.epoch_logs)
        if (updates, epochs) != (self.steps, self.blocks):
            raise RuntimeError(
                f"{updates} updates and {epochs} epochs with logs in {self.blocks} blocks with "
                f"{self.steps} steps"
            )
        return super().loss(images, labels)


def build(name: str, case: Case, images: np.ndarray, labels: np.ndarray) -> Gradloop:
    """`"gradloop"`: everything on; `"gradloop-plain"`: off."""
    return Gradloop(case, images, labels, callback=EpochLosses() if name == "gradloop" else None)
