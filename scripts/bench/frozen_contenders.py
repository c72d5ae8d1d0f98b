"""The process that `frozen` measures in: `python -m bench.frozen_contenders CASE ROUNDS SETTINGS`.

It prints one case as JSON; SETTINGS is JSON, too. Contenders train networks of their own, of the same kind
and on the same data, and take turns in one process; those whose peak memory is measured get a process each.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .child import peak_memory

if TYPE_CHECKING:
    import keras
    import numpy as np

    from gradloop.loops import Batches, TrainStep

# The first layer that trains.
FIRST = {"head only": "head", "top block": "block_16_expand"}
OPTIMIZERS = {
    "inference": None,
    "step with SGD": "sgd",
    "step with Adam for the head": "adam",
    "step with Adam": "adam",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is trained on what."""

    side: int = 96  # height and width of images
    examples: int = 2_000
    batch_size: int = 32


def load(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Random bytes as images, scaled to -1 to 1: float32 `[n, side, side, 3]`; labels 0 and 1."""
    import numpy as np

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (settings.examples, settings.side, settings.side, 3), np.uint8)
    return pixels.astype(np.float32) / np.float32(127.5) - 1, rng.integers(0, 2, settings.examples)


def split(model: keras.Model, first: str) -> tuple[list[keras.layers.Layer], list[keras.Variable]]:
    """The layers before one, and the variables that train from there on."""
    index = [layer.name for layer in model.layers].index(first)
    chosen = [variable for layer in model.layers[index:] for variable in layer.trainable_variables]
    return model.layers[:index], chosen


def network(name: str, side: int) -> keras.Model:
    """A network of `keras.applications` with random weights and a new head for two classes."""
    import keras

    application = getattr(keras.applications, name)
    base = application(input_shape=(side, side, 3), include_top=False, weights=None, pooling="avg")
    head = keras.layers.Dense(2, activation="softmax", name="head")
    return keras.Model(base.input, head(base.output))


def _clock() -> keras.callbacks.Callback:
    """A callback that takes the seconds of an epoch or a prediction, by Keras' own hooks.

    After the last batch, `fit` and `predict` may wait for as long again while the dataset's tuning thread
    ends, and they make a new dataset in each call. Neither is counted against them.
    """
    import keras

    class Clock(keras.callbacks.Callback):
        seconds = start = 0.0

        def on_epoch_begin(self, *_: object, **__: object) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, *_: object, **__: object) -> None:
            self.seconds = time.perf_counter() - self.start

        on_predict_begin, on_predict_end = on_epoch_begin, on_epoch_end

    return Clock()


def _epochs(first: str, settings: Settings) -> dict[str, Callable[[], float]]:
    """By contender a function that runs an epoch, with Adam and accuracy, and returns its seconds."""
    from gradloop import loops, models

    x, y = load(settings)
    loss, size = "sparse_categorical_crossentropy", settings.batch_size

    def made() -> tuple[keras.Model, list[keras.layers.Layer], list[keras.Variable]]:
        model = network("MobileNetV2", settings.side)
        return model, *split(model, first)

    fitted, frozen, _ = made()
    for layer in frozen:
        layer.trainable = False  # so that BatchNorm, too, runs in inference mode
    fitted.compile("adam", loss, metrics=["accuracy"])
    whole, _, chosen = made()
    step = loops.TrainStep(whole, loss, "adam", variables=chosen, metrics=["accuracy"])
    data = loops.Batches(x, y, size)
    model, _, chosen = made()
    cached = models.cache_frozen(model, chosen, data)
    short = loops.TrainStep(cached.model, loss, "adam", variables=cached.variables, metrics=["accuracy"])
    clock = _clock()

    def fit() -> float:
        fitted.fit(x, y, batch_size=size, epochs=1, verbose=0, callbacks=[clock])
        return float(clock.seconds)

    def train(own: TrainStep, batches: Batches) -> float:
        loops.train(own, batches, epochs=1, callbacks=[clock])
        return float(clock.seconds)

    return {"fit": fit, "no cache": lambda: train(step, data), "cached": lambda: train(short, cached.data)}


def _passes(settings: Settings, folder: str) -> dict[str, Callable[[], float]]:
    """Functions that run the frozen part over all examples and return the seconds: see `WANTED`."""
    import keras

    from gradloop import models

    x, y = load(settings)
    model, size = network("MobileNetV2", settings.side), settings.batch_size
    front: keras.Model = None
    clock = _clock()

    def predict(fresh: bool) -> float:
        nonlocal front
        if fresh:
            front = keras.Model(model.input, model.get_layer("head").input)
        front.predict(x, batch_size=size, verbose=0, callbacks=[clock])
        return float(clock.seconds)

    def cache(path: str | None) -> float:
        start = time.perf_counter()
        models.cache_frozen(model, "head", (x, y), batch_size=size, path=path)
        return time.perf_counter() - start

    return {
        "predict": lambda: predict(fresh=True),
        "predict again": lambda: predict(fresh=False),
        "in memory": lambda: cache(None),
        # A folder of its own each time: features that are there are not made again.
        "in files": lambda: cache(tempfile.mkdtemp(dir=folder)),
    }


def _peak(contender: str, settings: Settings) -> float:
    """MB that this process holds at its peak over what model and data take."""
    import keras
    import tensorflow as tf

    from gradloop import loops, optim

    # No more than a batch: what was freed before the count would be room for what comes after it.
    batch = load(dataclasses.replace(settings, examples=settings.batch_size))
    x, y = (tf.constant(array) for array in batch)
    model = network("VGG16", settings.side)
    before = peak_memory()
    run: Callable[..., object] = tf.function(lambda images, labels: model(images, training=False))
    if OPTIMIZERS[contender] is not None:
        optimizer = keras.optimizers.get(OPTIMIZERS[contender])
        if contender.endswith("for the head"):
            optimizer.build(optim.select(model, "head"))
        loss = "sparse_categorical_crossentropy"
        run = loops.TrainStep(model, loss, optimizer, variables="head", metrics=["accuracy"])
    for _ in range(3):
        run(x, y)
    return (peak_memory() - before) / 1e6


def _turns(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            gc.collect()
            found[name].append(run())
    # The first round traces the steps, and pays for imports.
    return {name: values[1:] for name, values in found.items()}


def _run(case: str, rounds: int, settings: Settings) -> dict[str, list[float]]:
    if case in OPTIMIZERS:
        return {case: [_peak(case, settings)]}
    if case == "write":
        with tempfile.TemporaryDirectory(prefix="gradloop-bench-") as folder:
            return _turns(_passes(settings, folder), rounds)
    return _turns(_epochs(FIRST[case], settings), rounds)


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], int(sys.argv[2]), Settings(**json.loads(sys.argv[3])))))
