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
