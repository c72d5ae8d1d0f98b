"""Makes `model.save` write the optimizer of a step, as after `fit`."""

from __future__ import annotations

import warnings
import weakref

import keras

from ...optim.common.optimizers import inner_optimizer
from ..loss.keras_loss import resolve_loss

# Optimizers that `compile_for_saving` set. (A later step over the same model may replace them.)
_compiled_here: weakref.WeakSet[keras.optimizers.Optimizer] = weakref.WeakSet()


def warn_of_other_optimizer(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Warns if the user compiled a model with another optimizer, which `model.save` would write."""
    if not model.compiled or model.optimizer is None or model.optimizer in _compiled_here:
        return
    theirs, ours = inner_optimizer(model.optimizer), inner_optimizer(optimizer)
    if theirs is not ours:
        warnings.warn(
            f"`model` {model.name!r} was compiled with an {type(theirs).__name__} that is not this step's "
            f"{type(ours).__name__}, and `model.save` will write that one: pass this one to `compile` to "
            "save it.",
            stacklevel=3,
        )


def compile_for_saving(model: keras.Model, optimizer: keras.optimizers.Optimizer, loss: object) -> None:
    """Compiles a model with a step's optimizer, as Keras saves and loads only the optimizer of `compile`.

    A model that the user has compiled stays as it is, and so does a model that overrides `compile`, whose
    arguments are not known.
    """
    own = type(model).compile is not keras.Model.compile
    if own or model.compiled and (model.optimizer is optimizer or model.optimizer not in _compiled_here):
        return
    keras_loss = resolve_loss(loss) if isinstance(loss, (str, keras.losses.Loss)) else None
    # A custom loss is left out, as its class is not known when the file is loaded.
    stock = getattr(keras.losses, type(keras_loss).__name__, None) is type(keras_loss)
    model.compile(optimizer, keras_loss if stock else None, auto_scale_loss=False)
    _compiled_here.add(optimizer)
