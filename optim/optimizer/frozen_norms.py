"""A warning of BatchNorm layers in frozen groups, where nothing runs them in inference mode."""

from __future__ import annotations

import warnings

from ..common.messages import first_few
from ..groups.plan import Plan


class FrozenNorms:
    """Warns of the BatchNorm layers that a plan freezes, once each, if not only a `TrainStep` trains."""

    def __init__(self) -> None:
        self._elsewhere = False
        self._plan: Plan | None = None  # the one that was looked at last
        self._told: set[str] = set()

    def tell(self, plan: Plan, elsewhere: bool = False) -> None:
        """Looks at the plan in force; `elsewhere` tells that it is not a `TrainStep` that calls."""
        self._elsewhere = self._elsewhere or elsewhere
        if not self._elsewhere or plan is self._plan:
            return
        self._plan = plan
        new = [name for name in plan.frozen_batch_norms if name not in self._told]
        self._told.update(new)
        if new:
            warnings.warn(
                f"BatchNormalization {first_few([repr(name) for name in new])} is in a frozen group of the "
                "optimizer's plan, which `loops.TrainStep` alone knows: in `fit` and in a loop of your own "
                "it normalises by the batch and moves its statistics. Set `layer.trainable = False` on it, "
                "after the plan was made and before `compile`.",
                stacklevel=4,
            )
