"""Loss spikes: detects and skips steps whose loss is far above the last ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import tensorflow as tf

from ...optim.common.arguments import real_number, whole_number
from ...optim.common.messages import short_repr
from ...optim.common.types import Gradient, Json, Scalar
from ...optim.gradients.replicas import when
from ..distribute.scope import is_asynchronous

LAST_LOSSES = "last_losses"  # their name in a state


@dataclass(frozen=True)
class Spike:
    """Which steps `on_spike` skips: `on_spike="skip"` is `on_spike=Spike()`.

    A loss is a spike if it exceeds the mean of the last `steps` losses by more than `deviations` of their
    standard deviations. These losses include spikes, so if the loss stays at a higher level (after a change
    of data, say), steps are taken again after a while. They do not include losses that are not finite, nor
    those of steps that `on_nonfinite` left out. Until `steps / 2` losses are known, every step is taken. If
    most losses are the same, such as 0, their deviation is small and every rise is a spike: do not use it
    with losses that are rarely above 0.

    Args:
        deviations: how many standard deviations above the mean.
        steps: with how many of the last losses it is compared.

    Raises:
        TypeError: an argument that is no number.
        ValueError: `deviations` not above 0, or `steps` below 2.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> step = loops.TrainStep(model, "mse", "sgd", on_spike=loops.Spike(deviations=4.0, steps=6))
        >>> y = np.zeros((8, 1))
        >>> y[5] = 1000.0  # a wrong target
        >>> values = step.run(iter(loops.Batches(np.ones((8, 3)), y, batch_size=1, shuffle=False)), 8)
        >>> int(step.batches_done.numpy()), int(step.optimizer.iterations.numpy())  # one was left out
        (8, 7)

    Reference: `SkipStepConfig` of Levanter, after OLMo (Allen Institute for AI).
    """

    deviations: float = 6.0
    steps: int = 128

    def __post_init__(self) -> None:
        real_number("deviations", self.deviations, above=0)
        whole_number("steps", self.steps, at_least=2)


class LastLosses:
    """The losses of the last steps, with which the next one is compared. Make it in the strategy's scope.

    Args:
        spike: which losses are spikes.

    Attributes:
        losses: float64, (spike.steps,), the newest last; NaN where there was no step yet.
    """

    def __init__(self, spike: Spike) -> None:
        self.spike = spike
        self.losses = tf.Variable(tf.fill([spike.steps], tf.constant(math.nan, tf.float64)), trainable=False)

    @classmethod
    def of(
        cls, on_spike: str | Spike | LastLosses | None, strategy: tf.distribute.Strategy | None
    ) -> LastLosses | None:
        """The last losses for an argument `on_spike`; None for None.

        Raises:
            ValueError: another value, or parameter servers, whose workers have no common last loss.
        """
        if on_spike is None or isinstance(on_spike, LastLosses):
            return on_spike
        if not isinstance(on_spike, Spike) and on_spike != "skip":
            raise ValueError(
                f'`on_spike` must be "skip", a `loops.Spike(...)` or None, not {short_repr(on_spike)}.'
            )
        if is_asynchronous(strategy):
            raise ValueError(
                f"`on_spike` is {short_repr(on_spike)} under parameter servers, whose workers run steps "
                "independently, so that no loss is the last one: leave it out, or use another strategy."
            )
        return cls(on_spike if isinstance(on_spike, Spike) else Spike())

    @staticmethod
    def settings(losses: LastLosses | None) -> dict[str, Json] | None:
        """The settings of the spike detection, as JSON; None without it."""
        return None if losses is None else asdict(losses.spike)

    def is_spike(self, loss: Scalar) -> Scalar:
        """Whether a step's loss, the same on each replica, is a spike: scalar bool."""
        losses = tf.convert_to_tensor(self.losses)
        known = tf.math.is_finite(losses)
        count = tf.reduce_sum(tf.cast(known, tf.float64))

        def mean(values: tf.Tensor) -> tf.Tensor:
            return tf.math.divide_no_nan(tf.reduce_sum(tf.where(known, values, 0.0)), count)

        center = mean(losses)
        limit = center + self.spike.deviations * tf.sqrt(mean((losses - center) ** 2))
        enough = count >= max(2, self.spike.steps // 2)
        return tf.logical_and(enough, tf.cast(loss, tf.float64) > limit)

    def unless_spike(self, use: Callable[..., object]) -> Callable[..., None]:
        """Wraps `use` with two more arguments at the end: the loss, and the result of `is_spike`.

        It adds the loss to the last losses, and calls `use` unless the loss is a spike.
        """

        def add_and_use(gradients: Sequence[Gradient], *arguments: Scalar) -> None:
            *others, loss, spike = arguments
            self._add(loss)
            when(~spike, lambda gradients, others: use(gradients, *others), gradients, others)

        return add_and_use

    def _add(self, loss: Scalar) -> None:
        losses, loss = tf.convert_to_tensor(self.losses), tf.cast(loss, tf.float64)
        added = tf.concat([losses[1:], loss[None]], 0)
        self.losses.assign(tf.where(tf.math.is_finite(loss), added, losses))
