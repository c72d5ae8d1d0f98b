"""Learning rate schedules that Keras lacks: both rise and fall once over a run."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from ..common.arguments import real_number, true_or_false, whole_number


class _Peak(keras.optimizers.schedules.LearningRateSchedule):
    """A highest rate in a number of updates, and further arguments, which are attributes of their names."""

    _further: tuple[str, ...]

    def __init__(self, max_rate: float, total_steps: int) -> None:
        self.max_rate = real_number("max_rate", max_rate, above=0)
        self.total_steps = whole_number("total_steps", total_steps, at_least=1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain values."""
        return {name: getattr(self, name) for name in ("max_rate", "total_steps", *self._further)}


@keras.saving.register_keras_serializable(package="gradloop")
class OneCycle(_Peak):
    r"""Rises to `max_rate`, then falls far below where it began.

    With $T$ = `total_steps` and $w$ = `warmup_fraction`, the rate goes from `max_rate / div_factor` at step 0
    to `max_rate` at step $wT - 1$ and to `max_rate / div_factor / final_div_factor` at step $T - 1$, where it
    stays. In three phases it first returns to its start, as slowly as it rose, at step $2wT - 2$. These are
    the numbers of PyTorch's `OneCycleLR`; momentum is not cycled.

    Args:
        max_rate: highest rate, above 0.
        total_steps: updates in the cycle, at least 1.
        warmup_fraction: share of them in which the rate rises, 0 to 1; to 0.5 in three phases.
        div_factor: `max_rate` over the rate at the start, at least 1.
        final_div_factor: rate at the start over the rate at the end, at least 1.
        anneal: form of the rise and the fall, "cos" or "linear".
        three_phase: whether to fall in two phases.

    Attributes:
        max_rate, total_steps: as given.

    Raises:
        TypeError, ValueError: an argument of another type, or out of range.

    Example:
        >>> schedule = OneCycle(0.1, total_steps=10)
        >>> [round(float(schedule(step)), 4) for step in (0, 1, 2, 6, 9, 10)]
        [0.004, 0.052, 0.1, 0.0389, 0.0, 0.0]

    Reference: Smith & Topin 2018, "Super-convergence: very fast training of neural networks using
    large learning rates"; `torch.optim.lr_scheduler.OneCycleLR`.
    """

    _further = ("warmup_fraction", "div_factor", "final_div_factor", "anneal", "three_phase")

    def __init__(
        self,
        max_rate: float,
        total_steps: int,
        *,
        warmup_fraction: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        anneal: str = "cos",
        three_phase: bool = False,
    ) -> None:
        self.three_phase = true_or_false("three_phase", three_phase)
        if anneal not in ("cos", "linear"):
            raise ValueError(f"`anneal` must be 'cos' or 'linear', got {anneal!r}")
        super().__init__(max_rate, total_steps)
        self.warmup_fraction = real_number("warmup_fraction", warmup_fraction, at_least=0, at_most=1)
        if three_phase and self.warmup_fraction > 0.5:
            raise ValueError(
                f"`warmup_fraction` must be at most 0.5 with `three_phase=True`, got {warmup_fraction!r}: "
                "the second phase takes as many steps as the first"
            )
        self.div_factor = real_number("div_factor", div_factor, at_least=1)
        self.final_div_factor = real_number("final_div_factor", final_div_factor, at_least=1)
        self.anneal = anneal

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The rate of update number `step`, counted from 0: a float32 tensor of the shape of `step`."""
        last = self.total_steps - 1
        step = _clamped(step, last)
        start = self.max_rate / self.div_factor
        end = start / self.final_div_factor
        peak = self.warmup_fraction * self.total_steps - 1
        rise = self._climb(start, self.max_rate, _height(step, 0, peak))
        if self.three_phase:
            turn = 2 * peak
            fall = self._climb(start, self.max_rate, _height(step, turn, peak))
            tail = self._climb(end, start, _height(step, last, turn))
            fall = tf.where(step <= turn, fall, tail)
        else:
            fall = self._climb(end, self.max_rate, _height(step, last, peak))
        return tf.where(step <= peak, rise, fall)

    def _climb(self, low: float, high: float, height: tf.Tensor) -> tf.Tensor:
        # A sine squared, not half of 1 - cos: it keeps its digits near the low end, which may be 1e5 times
        # smaller than the high one.
        if self.anneal == "cos":
            height = tf.square(tf.sin(math.pi / 2 * height))
        return low + (high - low) * height


@keras.saving.register_keras_serializable(package="gradloop")
class SlantedTriangular(_Peak):
    r"""Rises fast to `max_rate`, then falls slowly, both in a straight line.

    With $cut = \lfloor T \cdot cut\_fraction \rfloor$, where $T$ = `total_steps`, the rate of step $t$
    is $max\_rate \cdot (1 + p \cdot (ratio - 1)) / ratio$ with $p = t / cut$ before $cut$ and
    $p = 1 - (t - cut) / (cut \cdot (1 / cut\_fraction - 1))$ from there on, but not below 0: the rate
    goes from `max_rate / ratio` to `max_rate` and back, and stays there.

    Args:
        max_rate: highest rate, above 0.
        total_steps: updates in all; enough for the rise to have a step, 10 for a fraction of 0.1.
        cut_fraction: share of the steps in which the rate rises, above 0 and below 1.
        ratio: the highest rate over the lowest, at least 1.

    Attributes:
        max_rate, total_steps: as given.

    Raises:
        TypeError, ValueError: an argument of another type, or out of range.

    Example:
        >>> schedule = SlantedTriangular(0.32, total_steps=100)
        >>> [round(float(schedule(step)), 4) for step in (0, 5, 10, 55, 100, 101)]
        [0.01, 0.165, 0.32, 0.165, 0.01, 0.01]

    Reference: Howard & Ruder 2018, "Universal language model fine-tuning for text classification",
    equation 3.
    """

    _further = ("cut_fraction", "ratio")

    def __init__(
        self, max_rate: float, total_steps: int, *, cut_fraction: float = 0.1, ratio: float = 32.0
    ) -> None:
        super().__init__(max_rate, total_steps)
        self.cut_fraction = real_number("cut_fraction", cut_fraction, above=0, below=1)
        self.ratio = real_number("ratio", ratio, at_least=1)
        if self.total_steps * self.cut_fraction < 1:
            raise ValueError(
                f"`total_steps` {total_steps} leaves no step to rise in with `cut_fraction` "
                f"{self.cut_fraction:g}: use at least {math.ceil(1 / self.cut_fraction)} steps, or a larger "
                "fraction"
            )

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The rate of update number `step`, counted from 0: a float32 tensor of the shape of `step`."""
        step = _clamped(step, self.total_steps)
        cut = math.floor(self.total_steps * self.cut_fraction)
        # Rounding `cut` down makes the fall end before `total_steps`.
        fall = _height(step, cut / self.cut_fraction, cut)
        height = tf.where(step < cut, _height(step, 0, cut), fall)
        low = self.max_rate / self.ratio
        return low + (self.max_rate - low) * height


def _clamped(step: tf.Tensor | int, last: int) -> tf.Tensor:
    """`step` as float32, clipped to 0 to `last`: an integer before the cast, as float32 has only 24 bits."""
    step = tf.convert_to_tensor(step)
    step = tf.cast(step, tf.float32 if step.dtype.is_floating else tf.int64)
    return tf.cast(tf.clip_by_value(step, 0, last), tf.float32)


def _height(step: tf.Tensor, foot: float, top: float) -> tf.Tensor:
    """A line from 0 at step `foot` to 1 at step `top`, constant outside; `top` may come before `foot`."""
    if foot == top:
        return tf.ones_like(step)
    return tf.clip_by_value((step - foot) / (top - foot), 0.0, 1.0)
