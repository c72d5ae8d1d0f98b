"""Raises an error, skips the step or does nothing for gradients that are not finite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ...optim.common.types import Gradient, Scalar
from ...optim.gradients.replicas import on_all_replicas, once, when
from ..support.record_writes import active_writes
from .loss_scale import LossScale
from .nonfinite import all_finite, check_finite, check_finite_unless
from .spikes import LastLosses


class FiniteGuard:
    """Uses finite gradients, and handles others as `on_nonfinite` says.

    If the loss is a spike, it skips finite gradients, too.

    Args:
        names, variables: of the gradients.
        scale: the loss scale; a dynamic one is halved after an overflow, and grows.
        on_nonfinite: as for `Update`.
        losses: the last losses, with which a spike is detected; None to skip no spikes.
    """

    def __init__(
        self,
        names: Sequence[str],
        variables: Sequence[keras.Variable],
        scale: LossScale,
        on_nonfinite: str,
        losses: LastLosses | None = None,
    ) -> None:
        self.names = names
        self.variables = variables
        self.on_nonfinite = on_nonfinite
        self.losses = losses
        self._scale = scale

    @property
    def may_skip(self) -> bool:
        """Whether a step may be skipped: on overflow with a loss scale, with "skip", or for spikes."""
        return self._skips_nonfinite or self.losses is not None

    @property
    def _skips_nonfinite(self) -> bool:
        return self._scale.dynamic or self.on_nonfinite == "skip"

    @property
    def uses_not_overflow(self) -> bool:
        """Whether a call uses its argument `not_overflow`."""
        return self._scale.dynamic and self.on_nonfinite == "raise"

    def finite(self, gradients: Sequence[Gradient | None], loss: Scalar) -> Scalar:
        """Whether a loss and gradients (scaled if there is a loss scale) are finite: scalar bool."""
        present = [(gradient, v) for gradient, v in zip(gradients, self.variables) if gradient is not None]
        return all_finite([*self._scale.unscaled([g for g, _ in present], [v for _, v in present]), loss])

    def __call__(
        self,
        gradients: list[Gradient],
        loss: Scalar | None,
        not_overflow: Scalar | None,
        finite: Scalar | None,
        others: list[Scalar],
        use: Callable[..., object],
    ) -> Scalar:
        """Calls `use(gradients, *others)` unless the step is skipped; returns whether it was called.

        Args:
            gradients: summed over replicas, unscaled.
            loss: checked with them; None to check the gradients alone.
            not_overflow, finite: as for `Update.apply`.
            others: scalars, the same on each replica.
            use: applies the gradients.
        """
        writes = active_writes()  # of a step of one's own
        if writes is not None:
            writes.mark_trained(self.variables)
            if not writes.first or (self.on_nonfinite == "ignore" and not self.may_skip):
                writes = None
        checks = self._skips_nonfinite or (writes is not None and self.on_nonfinite != "ignore")
        if finite is None and checks:
            finite = once(all_finite, gradients if loss is None else [*gradients, loss])
        taken = finite
        if self.losses is not None:
            no_spike, use, others = self._unless_spike(loss, use, others)
            taken = no_spike if finite is None else tf.logical_and(finite, no_spike)
        undone = [] if writes is None else writes.undo_unless(taken, self.variables)
        if writes is not None and self.on_nonfinite == "raise":
            undone = on_all_replicas(undone)
        with tf.control_dependencies(undone):
            if self._skips_nonfinite:
                used = self._use_or_skip(gradients, loss, not_overflow, finite, others, use)
            else:
                used = self._check_and_use(gradients, loss, finite, others, use)
            return used if self.losses is None else tf.logical_and(used, no_spike)

    def _unless_spike(
        self, loss: Scalar | None, use: Callable[..., object], others: list[Scalar]
    ) -> tuple[Scalar, Callable[..., object], list[Scalar]]:
        """Whether the loss is no spike; and `use` and `others` changed so that a spike is skipped."""
        assert self.losses is not None
        if loss is None:
            raise ValueError(
                "`loss` is None, and `on_spike` decides by it: pass the loss with the gradients, "
                "`update(gradients, loss)`."
            )
        spike = self.losses.is_spike(loss)
        return ~spike, self.losses.unless_spike(use), [*others, loss, spike]

    def _check_and_use(
        self,
        gradients: list[Gradient],
        loss: Scalar | None,
        finite: Scalar | None,
        others: list[Scalar],
        use: Callable[..., object],
    ) -> Scalar:
        checked = []
        if self.on_nonfinite == "raise" and finite is not None:
            checked = [check_finite_unless(finite, gradients, self.names, loss)]
        elif self.on_nonfinite == "raise":
            checked = [once(check_finite, gradients, self.names, loss)]
        with tf.control_dependencies(checked):
            use(gradients, *others)
            return tf.constant(True)

    def _use_or_skip(
        self,
        gradients: list[Gradient],
        loss: Scalar | None,
        not_overflow: Scalar | None,
        finite: Scalar,
        others: list[Scalar],
        use: Callable[..., object],
    ) -> Scalar:
        def grow_and_use(gradients: list[Gradient], others: list[Scalar], *_: list[Scalar]) -> None:
            if self._scale.dynamic:
                self._scale.grow()
            use(gradients, *others)

        overflow = None if not self._scale.dynamic else self._overflow
        optional = [[] if value is None else [value] for value in (loss, not_overflow)]
        done = when(finite, grow_and_use, gradients, others, *optional, otherwise=overflow)
        with tf.control_dependencies([done]):
            return tf.identity(finite)

    def _overflow(
        self, gradients: list[Gradient], _: list[Scalar], losses: list[Scalar], not_overflow: list[Scalar]
    ) -> None:
        """Halves the loss scale, or raises if a lower scale would not help."""
        checked = []
        if self.on_nonfinite == "raise":
            fails = tf.reduce_any(tf.stack([self._scale.halved() < 1.0, *not_overflow]))
            checked = [check_finite_unless(~fails, gradients, self.names, *losses)]
        with tf.control_dependencies(checked):
            self._scale.halve()
