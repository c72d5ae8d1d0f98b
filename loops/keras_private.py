"""The one place in `loops` that reads what Keras keeps private; tests hold each access on every version."""

from __future__ import annotations

from typing import Any

import keras


def knows_variable(optimizer: keras.optimizers.Optimizer, variable: Any) -> bool:
    """Whether a built optimizer has state for `variable`.

    Keras tells only by raising from `apply`, which would be in the middle of a step.
    """
    try:
        optimizer._check_variables_are_known([variable])
    except ValueError:
        return False
    return True


def built_variables(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """The variables that a built optimizer was built over, in order."""
    return list(optimizer._trainable_variables)


def take_initial_epoch(model: keras.Model) -> int:
    """The epoch that `BackupAndRestore` wants to go on from, which it leaves on the model; 0 without one."""
    epoch = getattr(model, "_initial_epoch", None)
    if epoch is not None:
        model._initial_epoch = None
    return epoch or 0
