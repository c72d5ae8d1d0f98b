"""Runs that are ended and resumed: their cases, what ends them, and the same run without an end."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from tests.values import assert_same, numbers

EPOCHS = 4


class Cut(loops.StepsCallback):
    """Ends training after a number of batches, each number once."""

    def __init__(self, *at, error=OSError):
        super().__init__()
        self.left, self.error = list(at), error

    def steps_allowed(self, done):
        return self.left[0] - done if self.left else None

    def on_train_steps_end(self, first, values):
        if self.left and first - 1 + len(values["loss"]) == self.left[0]:
            self.left.pop(0)
            raise self.error("power cut")


class Noted(loops.StepsCallback):
    """The loss of each step by its number: of one that ran twice, the last."""

    def __init__(self):
        super().__init__()
        self.losses = {}

    def on_train_steps_end(self, first, values):
        self.losses.update(enumerate(values["loss"].tolist(), first))


class Halving(keras.callbacks.Callback):
    """Halves the rate at each epoch's beginning: doing so twice would show."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate.numpy()) / 2


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, "tanh", name="body"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.3, seed=5, name="drop"),
            keras.layers.Dense(3, "softmax", name="head"),
        ]
    )


class Plain:
    """What each case may change of a run."""

    steps_per_epoch: int | None = None
    validates = False

    def __init__(self):
        random = np.random.RandomState(0)
        self.x = random.rand(22, 4).astype("float32")
        self.y = random.randint(0, 3, 22)

    def optimizer(self, model):
        return keras.optimizers.SGD(0.1, momentum=0.9)

    def step(self):
        model = network()
        options = {"metrics": ["accuracy"]} | self.options()
        return loops.TrainStep(model, "sparse_categorical_crossentropy", self.optimizer(model), **options)

    def options(self):
        return {}

    def data(self):
        return loops.Batches(self.x, self.y, 5, seed=3)

    def callbacks(self):
        return []

    def train(self, step, *more, epochs=EPOCHS, **run):
        return loops.train(
            step,
            self.data(),
            epochs=epochs,
            steps_per_epoch=self.steps_per_epoch,
            validation=loops.Batches(self.x, self.y, 8) if self.validates else None,
            callbacks=[*self.callbacks(), *more],
            **run,
        )


class Everything(Plain):
    """Accumulation over the ends of epochs, clipping, a metric with a state, a schedule."""

    def optimizer(self, model):
        return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.9))

    def options(self):
        probabilities = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
        return {"accumulate": 3, "clip_norm": 0.5, "metrics": ["accuracy", probabilities]}


class Rates(Plain):
    """Callbacks that turn the rate."""

    validates = True

    def callbacks(self):
        plateau = keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=10.0, cooldown=1)
        return [Halving(), plateau]


class Stops(Plain):
    """Keras' early stopping, which puts the best weights back."""

    validates = True

    def callbacks(self):
        stop = keras.callbacks.EarlyStopping("val_loss", patience=2, min_delta=10.0)
        stop.restore_best_weights = True
        return [stop]


class Scaled(Plain):
    """A loss scale that is still falling."""

    def step(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            return super().step()
        finally:
            keras.config.set_dtype_policy("float32")

    def optimizer(self, model):
        inner = keras.optimizers.SGD(0.1, momentum=0.9)
        return keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**20, dynamic_growth_steps=3)


class Unfreezes(Plain):
    def optimizer(self, model):
        groups = {"body": optim.Group(optim.name("body") | optim.name("norm"), lr_scale=0.5), "head": "head"}
        return optim.GroupedOptimizer(keras.optimizers.Adam(0.05), optim.partition(model, groups))

    def callbacks(self):
        return [loops.Unfreeze({7: "norm", 12: "body"}, by="step")]

    def options(self):
        return {"variables": "head", "accumulate": 2}


class Waits(Plain):
    validates = True

    def callbacks(self):
        return [loops.Unfreeze({0: "head", 1: "*"}, by="plateau", min_delta=10.0)]


class Averages(Plain):
    def optimizer(self, model):
        return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8)


class Swaps(Averages):
    validates = True

    def callbacks(self):
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


class Hooks(Plain):
    """A batch hook: a call a step."""

    def callbacks(self):
        return [keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]


class Long(Plain):
    """Epochs that end within a pass, and go over one's end."""

    steps_per_epoch = 7


class Dataset(Plain):
    def data(self):
        return tf.data.Dataset.from_tensor_slices((self.x, self.y)).shuffle(22, seed=9).batch(5)


class LongDataset(Dataset):
    steps_per_epoch = 7


class Endless(Dataset):
    steps_per_epoch = 4

    def data(self):
        data = tf.data.Dataset.from_tensor_slices((self.x, self.y)).shuffle(22, seed=9)
        return data.repeat().batch(5).prefetch(2)


class Generated(Plain):
    """In whose iterator TensorFlow knows no place."""

    def data(self):
        def generate():
            for first in range(0, 22, 5):
                yield self.x[first : first + 5], self.y[first : first + 5]

        specs = (tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.int64))
        return tf.data.Dataset.from_generator(generate, output_signature=specs)


class LongGenerated(Generated):
    steps_per_epoch = 7


def cases(*always, release=(), long=()):
    """Parametrizes a test by cases, of which some run for a release alone, some on request."""
    others = {**dict.fromkeys(release, pytest.mark.release), **dict.fromkeys(long, pytest.mark.long)}
    return pytest.mark.parametrize(
        "make", [*always, *(pytest.param(case, marks=mark) for case, mark in others.items())]
    )


class Result(NamedTuple):
    """All that a run leaves."""

    state: dict[str, Any]
    history: dict[str, list[float]]
    epochs: list[int]
    losses: dict[int, float]  # of each step
    trained: list[list[str]]


def result(step, history, noted):
    trained = [variable.path.split("/")[-2:] for variable in step.variables]
    return Result(numbers(step.state()), history.history, history.epoch, noted.losses, trained)


def assert_same_run(one, other):
    assert list(one.state) == list(other.state)
    assert_same(one.state, other.state)
    np.testing.assert_equal(one.history, other.history)  # NaN too
    assert one[2:] == other[2:]


@functools.cache
def straight(make, *more):
    """The run of a case that nothing ends."""
    case, noted = make(), Noted()
    step = case.step()
    return result(step, case.train(step, noted, *more), noted)
