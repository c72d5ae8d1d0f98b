"""What happens to gradients before an optimizer's formula, in one order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..common.types import Gradient, Scalar
from .replicas import sum_over_replicas
from .sparse import without_repeats

Transform: TypeAlias = Callable[[list[Gradient]], list[Gradient]]
Consumer: TypeAlias = Callable[[list[Gradient]], None]


@dataclass(frozen=True)
class GradientPipeline:
    """From the gradients of each replica to an update, the same on one device and on many.

        sums = sum_over_replicas(gradients)      # all replicas have the same from here on
        sums = unscale(sums)                     # divide by the loss scale
        check(sums)                              # skip or fail if one of them is NaN or infinite
        means = accumulate(sums)                 # the rest happens on each n-th call alone
        means = clip(without_repeats(means))     # each row of a sparse one once; by value or norm
        apply(means)                             # the optimizer's formula

    Do not change this order: replicas clip the sum and not each its own share; a limit is for gradients that
    are not scaled any more and belong to the whole batch; one that is not finite would spoil the sums.

    `loops.Update` and `GroupedOptimizer.apply` are this pipeline with stages of their own.

    Attributes:
        apply: updates variables by gradients.
        unscale: None for gradients that are not scaled.
        check: calls its second argument with gradients that may be used; returns whether it did. None to
            use them all.
        accumulate: calls its second argument with means, after enough calls. None to update in each call.
        clip: None for no clipping.
        rows_repeat: whether a sparse gradient may hold a row twice; not if it comes from another pipeline.
    """

    apply: Consumer
    unscale: Transform | None = None
    check: Callable[[list[Gradient], Consumer], Scalar] | None = None
    accumulate: Callable[[list[Gradient], Consumer], None] | None = None
    clip: Transform | None = None
    rows_repeat: bool = True

    def __call__(self, gradients: Sequence[Gradient]) -> Scalar | None:
        """Runs all stages; returns what `check` returns, None without a check."""
        return self.from_sums(sum_over_replicas(gradients))

    def from_sums(self, sums: list[Gradient]) -> Scalar | None:
        """Runs the stages after the sum over replicas."""
        if self.unscale is not None:
            sums = self.unscale(sums)
        if self.check is not None:
            return self.check(sums, self._from_checked)
        self._from_checked(sums)
        return None

    def _from_checked(self, sums: list[Gradient]) -> None:
        if self.accumulate is not None:
            self.accumulate(sums, self._from_means)
        else:
            self._from_means(sums)

    def _from_means(self, gradients: list[Gradient]) -> None:
        if self.rows_repeat:
            gradients = [without_repeats(gradient) for gradient in gradients]
        if self.clip is not None:
            gradients = self.clip(gradients)
        self.apply(gradients)
