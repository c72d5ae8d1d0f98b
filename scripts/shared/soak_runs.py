"""The runs that `soak.py` kills: each resumes from the checkpoint in its folder, and writes its result."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from gradloop import loops, optim

EPOCHS = 3
RESULT = "result.npz"
HISTORY = "history.json"
OUTPUT = "output.txt"

_rng = np.random.default_rng(0)
X = _rng.normal(size=(96, 8)).astype("float32")
Y = _rng.integers(0, 3, 96)


History: TypeAlias = dict[str, list[float]]
State: TypeAlias = Mapping[str, keras.Variable | tf.Variable]


class Run(NamedTuple):
    """The arguments of `loops.train`."""

    step: loops.TrainStep
    data: loops.Batches | tf.data.Dataset
    callbacks: Sequence[keras.callbacks.Callback] = ()
    steps_per_epoch: int | None = None


def plan_that_unfreezes() -> Run:
    """Dropout, accumulation, averages, a schedule; the layers below begin to train in the third epoch."""
    model = _model(dropout=0.3)
    groups = {"head": "head", "body": optim.Group(~optim.name("head"), lr_scale=0.5, frozen=True)}
    rate = keras.optimizers.schedules.CosineDecay(0.02, 40)
    optimizer = optim.GroupedOptimizer(
        keras.optimizers.AdamW(rate, use_ema=True, ema_momentum=0.9), optim.partition(model, groups)
    )
    step = loops.TrainStep(model, _loss(), optimizer, metrics=["accuracy"], accumulate=2, clip_norm=1.0)
    unfreeze = loops.Unfreeze({0: "head", 2: optim.name("body*") | optim.name("norm*")})
    return Run(step, loops.Batches(X, Y, 8), [unfreeze])


def dataset_in_float16() -> Run:
    """A shuffled `tf.data.Dataset` whose epochs are not whole passes, in mixed_float16 with a loss scale."""
    model = _model(dropout=0.3, dtype="mixed_float16")
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=2.0**10, dynamic_growth_steps=7
    )
    step = loops.TrainStep(model, _loss(), optimizer, metrics=["accuracy"])
    # Some checkpoints are written where a pass ends.
    data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40, seed=1).batch(8).prefetch(1)
    return Run(step, data, steps_per_epoch=9)


def dropout_and_batch_norm() -> Run:
    """State on which replicas and workers must agree."""
    step = loops.TrainStep(_model(dropout=0.3), _loss(), keras.optimizers.Adam(0.01), metrics=["accuracy"])
    return Run(step, loops.Batches(X, Y, 12))


def goes_back() -> Run:
    """The loss is NaN in the 14th step until the rates were cut twice; steps with spikes are left out."""
    entropy = _loss()

    def loss(model: keras.Model, batch: tuple[tf.Tensor, tf.Tensor], training: bool = True) -> tf.Tensor:
        assert step.rate_cuts is not None
        bad = tf.logical_and(tf.equal(step.batches_done, 13), step.rate_cuts.count < 2)
        value = entropy(batch[1], model(batch[0], training=training))
        return tf.where(bad, np.nan, value) if training else value

    rate = keras.optimizers.schedules.CosineDecay(0.02, 40)
    optimizer, spike = keras.optimizers.Adam(rate), loops.Spike(deviations=0.5, steps=6)
    step = loops.TrainStep(_model(dropout=0.3), loss, optimizer, on_nonfinite="restore", on_spike=spike)
    return Run(step, loops.Batches(X, Y, 12))


def float64() -> Run:
    """For resuming on another number of devices, where results differ by rounding, small in float64."""
    model = _model(dtype="float64")
    step = loops.TrainStep(model, _loss(), keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
    return Run(step, loops.Batches(X.astype("float64"), Y, 12))


class OwnLoop:
    """A loop without a `TrainStep`: two optimizers, and a checkpoint of a dict every third step."""

    def __init__(self) -> None:
        model = self.model = _model(dropout=0.3)
        body = optim.select(model, ~optim.name("head"))
        self.updates = {
            "update_body": loops.Update(keras.optimizers.RMSprop(0.005), body, accumulate=2),
            "update_head": loops.Update(keras.optimizers.Adam(0.01), optim.select(model, "head")),
        }
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

        @loops.replicated
        def step(x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
            with tf.GradientTape(persistent=True) as tape:
                loss = loops.mean_loss(loss_of(y, model(x, training=True)))
            for update in self.updates.values():
                update(tape.gradient(loss, update.variables))
            return {"loss": loss}

        self.step = step

    def train(self, folder: Path) -> tuple[History, State]:
        """Trains to the end; returns what each step recorded, and the weights and optimizers."""
        losses: list[float] = []
        data = loops.Batches(X, Y, 8)
        checkpoint = loops.Checkpoint(folder / "checkpoints", keep=2, verbose=0)
        with loops.graceful_exit() as wanted, loops.TensorBoard(folder / "logs") as board:
            saved = {"model": self.model, **self.updates, "losses": losses, "board": board}
            iterator = checkpoint.restore(saved, data)
            losses = saved["losses"] = list(saved["losses"])
            while len(losses) < EPOCHS * len(data):
                if iterator.position == len(data):
                    iterator = iter(data)
                loss = float(self.step(*next(iterator))["loss"])
                losses.append(loss)
                board.write(len(losses), {"loss": loss})
                if len(losses) % 3 == 0 or wanted():
                    checkpoint.save(saved, iterator)
                if wanted():
                    raise loops.Preempted
        state = dict(optim.named_variables(self.model))
        for name, update in self.updates.items():
            state |= {f"{name}/{variable.path}": variable for variable in update.optimizer.variables}
        return {"loss": losses}, state


def _model(dropout: float = 0.0, dtype: str | None = None) -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, "relu", name="body", dtype=dtype),
            *([layers.Dropout(dropout, seed=3, dtype=dtype)] if dropout else []),
            layers.BatchNormalization(name="norm", dtype=dtype, synchronized=True),
            layers.Dense(3, name="head", dtype=dtype),
        ]
    )


def _loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def run(make: str, folder: Path, spec: str, cluster: str | None = None) -> None:
    """The main function of a process: trains in `folder` to the end, from its checkpoint if there is one.

    Args:
        make: name of a function above.
        folder: of the run; `RESULT` and `HISTORY` are written there when it is done, and what it prints to
            `OUTPUT`.
        spec: as `loops.strategy` takes it.
        cluster: `TF_CONFIG` of a worker.
    """
    with open(folder / OUTPUT, "a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    if cluster is not None:
        os.environ["TF_CONFIG"] = cluster
    strategy = loops.strategy(spec)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        made = globals()[make]()
    history, state = made.train(folder) if isinstance(made, OwnLoop) else _trained(made, folder)
    with strategy.scope():  # where reading a value takes all workers, all must read
        values = {name: variable.numpy() for name, variable in state.items()}
    if loops.is_chief():
        (folder / HISTORY).write_text(json.dumps(history))
        np.savez(folder / RESULT, **values)


def _trained(run: Run, folder: Path) -> tuple[History, State]:
    checkpoint = loops.Checkpoint(folder / "checkpoints", every_steps=3, keep=2, verbose=0)
    board = loops.TensorBoard(folder / "logs", watch_every=5, graph=False)
    validation = loops.Batches(X, Y, 32, shuffle=False)
    history = loops.train(
        run.step, run.data, epochs=EPOCHS, steps_per_epoch=run.steps_per_epoch, validation=validation,
        callbacks=[*run.callbacks, board], checkpoint=checkpoint,
    ).history  # fmt: skip
    return history, run.step.state()
