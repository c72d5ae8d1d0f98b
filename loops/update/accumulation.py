"""The gradients that an update accumulates over calls, and `flush`, which applies them when the data ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ...optim.common.types import Gradient, Scalar
from ...optim.gradients.accumulator import GradientAccumulator
from ...optim.gradients.replicas import in_replica
from ...optim.updates.settings import Settings
from .clip_and_apply import ClipAndApply
from .measures import Measures


class Accumulation:
    """The half of an `Update` that accumulates gradients, until `accumulate` calls or the end of the data.

    A subclass sets `_clip_and_apply`, which updates the variables.

    Args:
        variables: in the order of the gradients.
        accumulate: how many calls make one update.
        strategy: of the variables, or None.
        optimizer: a change of its settings makes `flush` trace again.
    """

    _clip_and_apply: ClipAndApply

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        accumulate: int,
        strategy: tf.distribute.Strategy | None,
        optimizer: keras.optimizers.Optimizer,
    ) -> None:
        self.accumulate = accumulate
        self._accumulator = GradientAccumulator.over(variables, accumulate) if accumulate > 1 else None
        self._strategy = strategy
        # Runs on all replicas; traced for the settings in `_flush_settings`.
        self._flush_all: Callable[[], Scalar] | None = None
        self._flush_settings = Settings([optimizer])

    @property
    def accumulators(self) -> list[tf.Variable]:
        """A running sum for each variable, the number of calls, and their weight; or empty."""
        return [] if self._accumulator is None else self._accumulator.variables

    @property
    def waiting(self) -> int:
        """How many calls were accumulated and not applied yet."""
        accumulator = self._accumulator
        return 0 if accumulator is None else int(accumulator.calls.numpy()) % self.accumulate

    def flush(self) -> Scalar:
        """Applies gradients that were accumulated and not applied yet, as the mean over their calls.

        Call it when the data ends: in a replica's part of a step, or outside of any, where it runs on all
        replicas.

        Returns:
            A scalar bool tensor: whether there were any, and so an update.

        Example:
            >>> import keras, tensorflow as tf
            >>> from gradloop import loops
            >>> weight = keras.Variable(1.0)
            >>> update = loops.Update(keras.optimizers.SGD(0.25), [weight], accumulate=4)
            >>> for gradient in (1.0, 3.0):
            ...     _ = update([tf.constant(gradient)])
            >>> bool(update.flush()), float(weight), bool(update.flush())
            (True, 0.5, False)
        """
        accumulator, strategy = self._accumulator, self._strategy
        if accumulator is None:
            return tf.constant(False)
        if strategy is None or in_replica():
            return accumulator.flush(self._clip_and_apply)
        if self._flush_settings.changed() or self._flush_all is None:
            function = tf.function(lambda: strategy.run(self.flush), autograph=False)
            with strategy.scope():
                self._flush_all = function.get_concrete_function()
        with strategy.scope():
            return strategy.experimental_local_results(self._flush_all())[0]

    def reset_accumulators(self) -> None:
        """Drops gradients that were accumulated but not applied yet."""
        if self._accumulator is not None:
            self._accumulator.reset()

    def _accumulate(
        self, gradients: list[Gradient], weight: Scalar | None = None, measures: Measures | None = None
    ) -> None:
        update = functools.partial(self._clip_and_apply, measures=measures)
        if self._accumulator is None:
            update(gradients)
        else:
            self._accumulator.add(gradients, update, weight=weight)
