"""`model.fit`: as it comes, and tuned as far as its options go."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np

from . import keras_networks
from .case import LEARNING_RATE, STEPS_PER_CALL, Case, Contender


class Fit(keras_networks.KerasContender):
    """`fit` on arrays, one call a block, silent.

    A block of n steps fits the first n batches of the data, in shuffled order, for one epoch: this
    is what `fit` does best, since a data set that outlives the call is not rewound.
    """

    def __init__(self, case: Case, images: np.ndarray, labels: np.ndarray, **options: Any) -> None:
        self.keras, self.images, self.labels, self.batch_size = keras, images, labels, case.batch_size
        self.model = keras_networks.build(keras, case.network)
        self.model.compile(
            keras.optimizers.SGD(LEARNING_RATE),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **options,
        )

    def block(self, steps: int) -> None:
        rows = steps * self.batch_size
        self.model.fit(
            self.images[:rows], self.labels[:rows], batch_size=self.batch_size, epochs=1, verbose=0
        )


class TunedFit(Contender):
    """`fit` with many steps an execution; tries XLA off and on and takes the quicker."""

    def __init__(self, case: Case, images: np.ndarray, labels: np.ndarray) -> None:
        self.candidates = {
            f"XLA {state}": Fit(case, images, labels, steps_per_execution=STEPS_PER_CALL, jit_compile=on)
            for state, on in (("off", False), ("on", True))
        }
        # Convolutions are slower under XLA on a CPU: the first step is timed without it, so that
        # a peer is not charged for a compilation that its user would not ask for.
        self.fit = self.candidates["XLA off"]
        self.trial = min(case.steps, STEPS_PER_CALL)

    def tune(self) -> None:
        seconds = {}
        for name, fit in self.candidates.items():
            fit.block(self.trial)
            times = []
            for _ in range(3):
                start = time.perf_counter()
                fit.block(self.trial)
                times.append(time.perf_counter() - start)
            seconds[name] = min(times)
        best = min(seconds, key=seconds.__getitem__)
        self.note = f"{best} (the other took {max(seconds.values()) / seconds[best]:.1f}x as long)"
        self.fit = self.candidates[best]
        self.candidates.clear()

    @property
    def parameters(self) -> int:
        return self.fit.parameters

    def block(self, steps: int) -> None:
        self.fit.block(steps)

    def loss(self, images: np.ndarray, labels: np.ndarray) -> float:
        return self.fit.loss(images, labels)


def build(name: str, case: Case, images: np.ndarray, labels: np.ndarray) -> Contender:
    """`"fit"` or `"fit-tuned"`."""
    return (Fit if name == "fit" else TunedFit)(case, images, labels)
