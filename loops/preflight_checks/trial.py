"""Training steps that are undone: size of updates, time spent waiting for data, overfitting a few examples.

They run in a `TrainStep` of their own over the same model and optimizer. So the user's step keeps its counts
and traces, and random operations within its traced functions start as they would have.
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
_SECONDS = 4.0  # time limit of each of the loops below
MIN_OVERFIT_STEPS = 20  # enough for the loss to fall, where the network can overfit
_RATES = (1e-3, 1e-2)  # of Adam, which is tried where the step's own optimizer fails


class Trial(NamedTuple):
    """What the training steps on the data measured."""

    # By group, the norm of a change over that of the weights, each at the group's highest rate.
    ratios: dict[str, list[float]]
    losses: list[float]  # of each step
    changed_state: set[str]  # names in `step.state()` of the variables that changed
    seconds_with_data: list[float]  # time of each step that reads its batch; empty for data on the device
    seconds_in_memory: list[float]  # time of each step on a batch in memory; as many
    error: Exception | None  # the error that a step raised


def private_step(
    step: TrainStep, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> TrainStep:
    """A copy of `step` over the same model, with counts, traces and accumulated gradients of its own."""
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
    """Runs up to `_STEPS` training steps on the data, and as many timed ones."""
    before = {name: variable.numpy() for name, variable in step.state().items()}
    # Variables that start at zero (biases, the second factor of a LoRA) are left out: their first change is
    # larger than they are, however low the rate.
    nonzero = [[v for v in group.variables if np.any(keras.ops.convert_to_numpy(v))] for group in groups]
    ratios: dict[str, list[float]] = {group.name: [] for group in groups}
    losses: list[float] = []
    with_data: list[float] = []
    in_memory: list[float] = []
    error: Exception | None = None
    start = 0.0
    try:
        while len(losses) < _STEPS and (len(losses) < 3 or time.perf_counter() - start < _SECONDS):
            rates = [group.rate() for group in groups]
            weights = [[tf.identity(variable.value) for variable in variables] for variables in nonzero]
            losses.append(float(step.run_records(sample.read(), 1).values()["loss"][0]))
            start = start if len(losses) > 1 else time.perf_counter()  # the first step is traced
            for group, rate, variables, old in zip(groups, rates, nonzero, weights):
                ratio = _ratio(variables, old)
                if ratio and rate > 0:  # not of a step that was skipped
                    ratios[group.name].append(ratio * group.highest / rate)
        start = time.perf_counter()
        # In turn, as the load of the machine may change.
        while sample.read_first is not None and len(in_memory) < _STEPS:
            with_data.append(_timed(step, sample.read))
            in_memory.append(_timed(step, sample.read_first))
            if len(in_memory) > 2 and time.perf_counter() - start > _SECONDS:
                break
    except (ValueError, TypeError, ArithmeticError) as raised:  # what a step refuses; all else is raised
        error = raised
    after = {name: variable.numpy() for name, variable in step.state().items()}
    changed = {name for name, value in before.items() if value.tobytes() != after[name].tobytes()}
    return Trial(ratios, losses, changed, with_data[2:], in_memory[2:], error)


def _timed(step: TrainStep, read: Reader) -> float:
    iterator, start = read(), time.perf_counter()
    step.run_records(iterator, 1)
    return time.perf_counter() - start


def _ratio(variables: Sequence[keras.Variable], old: Sequence[tf.Tensor]) -> float:
    """Norm of the change divided by the norm of the weights; 0 without weights."""
    weights = [tf.cast(value, tf.float32) for value in old]
    change = [tf.cast(v.value, tf.float32) - weight for v, weight in zip(variables, weights)]
    return float(tf.linalg.global_norm(change) / tf.linalg.global_norm(weights)) if weights else 0.0


class OverfitResult(NamedTuple):
    """Loss of a few examples before and after training on them alone, without `model.losses`."""

    examples: int
    loss_before: float
    loss_after: float  # NaN if training diverged
    steps: int
    optimizer: str  # which optimizer trained, in words

    @property
    def fell(self) -> bool:
        """Whether the loss fell by at least 15%, more than noise explains."""
        limit = self.loss_before - 0.15 * abs(self.loss_before)
        return self.loss_after < limit and np.isfinite(self.loss_after)


def overfit_few_examples(
    user: TrainStep, step: TrainStep, sample: Sample, groups: Sequence[TrainedGroup]
) -> OverfitResult:
    """Trains on a few examples alone: with the step's optimizer and, if the loss does not fall, with Adam."""
    tries = []
    if any(group.rate() >= 0.1 * group.highest for group in groups):  # no warmup
        tries.append(_overfit(step, sample, f"{type(step.inner_optimizer).__name__} as given"))
    for rate in _RATES if not (tries and tries[-1].fell) else ():
        with scope_of(user.strategy):
            adam = keras.optimizers.Adam(rate, name="preflight")
        try:
            tries.append(_overfit(private_step(user, adam, user.variables), sample, f"Adam at {rate:g}"))
        finally:
            compile_for_saving(user.model, user.optimizer, user.loss)  # instead of this Adam
        if tries[-1].fell or tries[-1].steps < MIN_OVERFIT_STEPS:
            break
    return tries[-1]


def _overfit(step: TrainStep, sample: Sample, optimizer: str) -> OverfitResult:
    batch = next(sample.read_few())
    examples = examples_of(batch)
    losses: list[float] = []
    with restored_state(step):
        loss_before = loss_of(step, batch)
    with restored_state(step):
        start = 0.0
        try:
            while len(losses) < 3 * MIN_OVERFIT_STEPS:
                losses.append(float(step.run_records(sample.read_few(), 1).values()["loss"][0]))
                start = start or time.perf_counter()  # the first step may be traced
                if statistics.fmean(losses[-3:]) < 0.5 * losses[0]:
                    break
                if len(losses) > 2 and time.perf_counter() - start > _SECONDS:
                    break
        except ArithmeticError:  # the loss diverged
            return OverfitResult(examples, loss_before, float("nan"), MIN_OVERFIT_STEPS, optimizer)
        return OverfitResult(examples, loss_before, loss_of(step, batch), len(losses), optimizer)
