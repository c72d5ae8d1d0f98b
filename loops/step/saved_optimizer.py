"""The optimizer of a step in the files that `model.save` writes, as after `fit`."""

from __future__ import annotations

import weakref

import keras

from ..loss.keras_loss import resolve_loss

# Those that models were compiled with here. (A step of the user's may follow another one.)
_ours: weakref.WeakSet[keras.optimizers.Optimizer] = weakref.WeakSet()


def compile_for_saving(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: object) -> None:
    """Compiles a model with a step's optimizer, as Keras saves and loads the one of `compile` alone.

    A model that the user has compiled stays as it is, and one whose class has a `compile` of its own, which
    may want anything.
    """
    own = type(model).compile is not keras.Model.compile
    if own or model.compiled and (model.optimizer is optimizer or model.optimizer not in _ours):
        return
    found = resolve_loss(loss) if isinstance(loss, (str, keras.losses.Loss)) else None
    stock = getattr(keras.losses, type(found).__name__, None) is type(found)  # a file need not know others
    model.compile(optimizer, found if stock else None, auto_scale_loss=False)
    _ours.add(optimizer)
