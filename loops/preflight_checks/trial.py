"""Some steps, which are undone: what an update changes, what waits, whether a few examples are learned.

They are those of a `TrainStep` of their own over the same model and optimizer. So the user's is traced and
counted as if nothing had run, and random operations within its traced functions begin as they would have.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ...optim.learning_rate.lr_finder import restored_state
from ..distribute.scope import scope_of
from ..step.saved_optimizer import compile_for_saving
from ..step.train_step import TrainStep
from .probe import loss_of
from .rates import TrainedGroup
from .sample import Reader, Sample, examples_of

_STEPS = 20
_SECONDS = 4.0  # for each kind of steps
ENOUGH = 20  # steps in which something is learned
_RATES = (1e-3, 1e-2)  # of Adam, where the step's own optimizer learns nothing: are the data to blame?


class Trial(NamedTuple):
    """What some steps on the data did."""

    # By group, the norm of a change over that of the weights, each at the group's highest rate.
    ratios: dict[str, list[float]]
    losses: list[float]  # of each step
    written: set[str]  # what changed, by the names in `step.state()`
    seconds: list[float]  # of some steps on the data; none where it is read on the device
    again: list[float]  # of as many on a batch that was in memory
    error: Exception | None  # what a step raised; None for nothing


def private_step(
    step: TrainStep, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> TrainStep:
    """A step that trains the same as `step`, and counts, traces and accumulates for itself."""
    return TrainStep(
        step.model,
        step.loss,
        optimizer,
        variables=list(variables),
        clip_norm=step.clip_norm,
        jit_compile=step.jit_compile,
        on_nonfinite=step.on_nonfinite,
    )


def try_steps(step: TrainStep, sample: Sample, groups: Sequence[TrainedGroup]) -> Trial:
    """Trains on the data for some steps."""
    before = {name: variable.numpy() for name, variable in step.state().items()}
    # Those that start at zero (biases, the second factor of a LoRA) move by more than they are at first,
    # however low the rate.
    moving = [[v for v in group.variables if np.any(keras.ops.convert_to_numpy(v))] for group in groups]
    ratios: dict[str, list[float]] = {group.name: [] for group in groups}
    losses: list[float] = []
    seconds: list[float] = []
    again: list[float] = []
    error: Exception | None = None
    start = 0.0
    try:
        while len(losses) < _STEPS and (len(losses) < 3 or time.perf_counter() - start < _SECONDS):
            rates = [group.rate() for group in groups]
            weights = [[tf.identity(variable.value) for variable in some] for some in moving]
            losses.append(float(step.run_records(sample.read(), 1).values()["loss"][0]))
            start = start if len(losses) > 1 else time.perf_counter()  # the first step is traced
            for group, rate, variables, old in zip(groups, rates, moving, weights):
                ratio = _ratio(variables, old)
                if ratio and rate > 0:  # not of a step that was skipped
                    ratios[group.name].append(ratio * group.highest / rate)
        start = time.perf_counter()
        while sample.first is not None and len(again) < _STEPS:  # in turn, as a machine may get busier
            seconds.append(_timed(step, sample.read))
            again.append(_timed(step, sample.first))
            if len(again) > 2 and time.perf_counter() - start > _SECONDS:
                break
    except (ValueError, TypeError, ArithmeticError) as found:  # what a step refuses; all else is raised
        error = found
    now = {name: variable.numpy() for name, variable in step.state().items()}
    written = {name for name, value in before.items() if value.tobytes() != now[name].tobytes()}
    return Trial(ratios, losses, written, seconds[2:], again[2:], error)


def _timed(step: TrainStep, read: Reader) -> float:
    iterator, start = read(), time.perf_counter()
    step.run_records(iterator, 1)
    return time.perf_counter() - start


def _ratio(variables: Sequence[keras.Variable], old: Sequence[tf.Tensor]) -> float:
    """Norm of the change over that of the weights; 0 for no weights."""
    weights = [tf.cast(value, tf.float32) for value in old]
    change = [tf.cast(v.value, tf.float32) - weight for v, weight in zip(variables, weights)]
    return float(tf.linalg.global_norm(change) / tf.linalg.global_norm(weights)) if weights else 0.0


class Learned(NamedTuple):
    """What became of the loss of a few examples, without what `model.losses` adds."""

    examples: int
    first: float  # loss, before the steps
    last: float  # loss, after them
    steps: int
    by: str  # which optimizer trained

    @property
    def fell(self) -> bool:
        """Whether the loss is lower by more than noise explains."""
        return self.last < self.first - 0.15 * abs(self.first) and np.isfinite(self.last)


def learn_by_heart(
    user: TrainStep, step: TrainStep, sample: Sample, groups: Sequence[TrainedGroup]
) -> Learned:
    """Trains on a few examples alone: by the user's optimizer and, if that learns nothing, by Adam."""
    tries = []
    if any(group.rate() >= 0.1 * group.highest for group in groups):  # no warmup
        tries.append(_learn(step, sample, f"{type(step.inner_optimizer).__name__} as given"))
    for rate in _RATES if not (tries and tries[-1].fell) else ():
        with scope_of(user.strategy):
            adam = keras.optimizers.Adam(rate, name="preflight")
        try:
            tries.append(_learn(private_step(user, adam, user.variables), sample, f"Adam at {rate:g}"))
        finally:
            compile_for_saving(user.model, user.optimizer, user.loss)  # not with this Adam
        if tries[-1].fell or tries[-1].steps < ENOUGH:
            break
    return tries[-1]


def _learn(step: TrainStep, sample: Sample, by: str) -> Learned:
    batch = next(sample.few())
    examples = examples_of(batch)
    recorded: list[float] = []
    with restored_state(step):
        first = loss_of(step, batch)
    with restored_state(step):
        start = 0.0
        try:
            while len(recorded) < 3 * ENOUGH:
                recorded.append(float(step.run_records(sample.few(), 1).values()["loss"][0]))
                start = start or time.perf_counter()  # the first step may be traced
                if statistics.fmean(recorded[-3:]) < 0.5 * recorded[0]:
                    break
                if len(recorded) > 2 and time.perf_counter() - start > _SECONDS:
                    break
        except ArithmeticError:  # it has diverged
            return Learned(examples, first, float("nan"), ENOUGH, by)
        return Learned(examples, first, loss_of(step, batch), len(recorded), by)
