"""The one place in `loops` that reads what Keras keeps private; tests hold each access on every version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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


def keras_mask(predictions: Any) -> Any:
    """The mask that Keras hung on a model's output, which its losses heed; None for none."""
    return getattr(predictions, "_keras_mask", None)


def take_initial_epoch(model: keras.Model) -> int:
    """The epoch that `BackupAndRestore` wants to go on from, which it leaves on the model; 0 without one."""
    epoch = getattr(model, "_initial_epoch", None)
    if epoch is not None:
        model._initial_epoch = None
    return epoch or 0


@contextlib.contextmanager
def undivided_losses() -> Iterator[None]:
    """Traces the body with Keras' losses as they are on one device: not divided by the number of replicas.

    Keras divides in a function of its own, for which it has no switch.

    Raises:
        ImportError: Keras has this function no longer; with the losses divided, numbers would be wrong.
    """
    from keras.src.losses import loss as module

    divide = module.scale_loss_for_distribution
    module.scale_loss_for_distribution = lambda value: value
    try:
        yield
    finally:
        module.scale_loss_for_distribution = divide
