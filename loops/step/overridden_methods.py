"""Refuses models that override methods of `fit` which a step does not call, such as `train_step`."""

from __future__ import annotations

import keras

TRAINING = ("train_step", "compute_loss", "compute_metrics", "make_train_function")
EVALUATING = ("test_step", "compute_loss", "compute_metrics", "make_test_function")


def check_overridden_methods(model: keras.Model, loss: object, names: tuple[str, ...]) -> None:
    """Raises ValueError if a model overrides one of these methods, which a step with a Keras `loss` ignores.

    A loss function of `(model, batch)` replaces them, so with one this check is not needed.
    """
    for name in names:
        if name in vars(model) or getattr(type(model), name) is not getattr(keras.Model, name):
            kind = type(model).__name__
            raise ValueError(
                f"`model` {model.name!r} is a {kind} with its own `{name}`, which `fit` calls and a step "
                f"does not: with `loss` {getattr(loss, 'name', loss)!r} it would be left out. Pass what "
                "it computes as `loss`, a function `(model, batch, training=True)` that returns the loss or "
                "`(loss, predictions)`."
            )
