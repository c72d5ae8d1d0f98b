"""The optimizer of a step in the files that `model.save` writes, as after `fit`."""

from __future__ import annotations

import warnings
import weakref

import keras

from ...optim.common.optimizers import inner_optimizer
from ..loss.keras_loss import resolve_loss

# Those that models were compiled with here. (A step of the user's may follow another one.)
_ours: weakref.WeakSet[keras.optimizers.Optimizer] = weakref.WeakSet()


def tell_of_another(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Warns if a model was compiled by the user with another optimizer, which `model.save` would write."""
    if not model.compiled or model.optimizer is None or model.optimizer in _ours:
        return
    theirs, ours = inner_optimizer(model.optimizer), inner_optimizer(optimizer)
    if theirs is not ours:
        warnings.warn(
            f"`model` {model.name!r} was compiled with an {type(theirs).__name__} that is not this step's "
            f"{type(ours).__name__}, and `model.save` will write that one: give this one to `compile` if the "
            "file is to have it.",
            stacklevel=3,
        )


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
