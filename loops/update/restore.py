"""`on_nonfinite="restore"`: going back to the last checkpoint, and the lower rates afterwards."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import tensorflow as tf

from ...optim.common.arguments import real_number, whole_number
from ...optim.common.types import Json, Scalar
from ..distribute.scope import has_other_workers, is_asynchronous

RATE_CUTS = "rate_cuts"  # the name of the count in a state


@dataclass(frozen=True)
class Restore:
    """Goes back to the last checkpoint after NaN or infinity: `on_nonfinite="restore"` is `Restore()`.

    `train` resumes from the run's last checkpoint, and continues with lower learning rates: after `n` times,
    the rates that the optimizer, its groups, schedules and callbacks set are multiplied by `factor**n`. The
    same data comes in the same order, unless it is a dataset that shuffles each pass anew. `n` is part of the
    step's state, so a run that is killed resumes with the same rates. It is in each epoch's logs as
    `rate_cuts`. Callbacks begin again with the run. If the last checkpoint was saved while the loss was
    exploding, a lower rate may come too late, and every try ends in NaN again: then save less often.

    Args:
        factor: the rates are multiplied by it each time.
        times: how often this happens at most, in all of the step's training; then the `NonFiniteError` is
            raised.

    Raises:
        TypeError: an argument that is no number.
        ValueError: `factor` not between 0 and 1, or `times` below 1.

    Example:
        >>> import tempfile, keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> optimizer = keras.optimizers.SGD(10.0)  # a rate at which the loss grows to infinity
        >>> step = loops.TrainStep(model, "mse", optimizer, on_nonfinite=loops.Restore(factor=0.01))
        >>> data = loops.Batches(np.ones((40, 1)), np.zeros((40, 1)), batch_size=1)
        >>> history = loops.train(step, data, epochs=2, checkpoint=tempfile.mkdtemp())
        Training goes on at epoch 1, from ...checkpoint-1
        >>> history.history["rate_cuts"]  # it went back once, in the first epoch
        [1.0, 1.0]
    """

    factor: float = 0.5
    times: int = 3

    def __post_init__(self) -> None:
        if real_number("factor", self.factor, above=0) >= 1:
            raise ValueError(
                f"`factor` is {self.factor:g}, which makes no rate lower: pass one below 1, such as 0.5."
            )
        whole_number("times", self.times, at_least=1)


class RateCuts:
    """The cuts of a step's learning rates. Make it in the strategy's scope.

    Attributes:
        restore: the factor, and the largest number of cuts.
        count: int64 variable: number of cuts so far.
    """

    def __init__(self, restore: Restore) -> None:
        self.restore = restore
        self.count = tf.Variable(0, trainable=False, dtype=tf.int64)

    @classmethod
    def of(cls, on_nonfinite: object, strategy: tf.distribute.Strategy | None) -> RateCuts | None:
        """The cuts for an argument `on_nonfinite` of a step; None if it does not ask to restore.

        Raises:
            ValueError: several workers, which cannot continue after an error in a step.
        """
        if not asks_to_restore(on_nonfinite):
            return None
        if is_asynchronous(strategy) or has_other_workers(strategy):
            raise ValueError(
                f"`on_nonfinite` is {on_nonfinite!r} on several workers, which TensorFlow does not let go on "
                'together after an error in a step: pass "skip", or "raise" and start again from the last '
                "checkpoint with a lower rate."
            )
        return cls(on_nonfinite if isinstance(on_nonfinite, Restore) else Restore())

    def rate_of(self, rate: Scalar) -> Scalar:
        """The rate to use for an update, from the rate that is set."""
        return rate * tf.cast(self.restore.factor, rate.dtype) ** tf.cast(self.count, rate.dtype)


def asks_to_restore(on_nonfinite: object) -> bool:
    """Whether an argument `on_nonfinite` is a `Restore` or "restore"."""
    return isinstance(on_nonfinite, Restore) or on_nonfinite == "restore"


def setting_of(on_nonfinite: str | Restore) -> Json:
    """An argument `on_nonfinite` as JSON."""
    return asdict(on_nonfinite) if isinstance(on_nonfinite, Restore) else on_nonfinite
