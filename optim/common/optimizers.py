"""What several rooms ask of Keras' optimizers."""

from __future__ import annotations

from collections.abc import Sequence

import keras

# Settings that hold for all variables of an optimizer together. Under a `GroupedOptimizer`, for all groups.
SHARED_SETTINGS = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)
# Others of a wrapped optimizer that a `GroupedOptimizer` has itself, and that may be set on it later.
FOLLOWED_SETTINGS = ("weight_decay", "ema_momentum", "ema_overwrite_frequency")


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer inside a `LossScaleOptimizer`; any other one as it is."""
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if scaled else optimizer


def overridden(kind: type, base: type, methods: Sequence[str]) -> list[str]:
    """Those of the methods of a class that are not those of its base class."""
    return [name for name in methods if getattr(kind, name, None) is not getattr(base, name, None)]
