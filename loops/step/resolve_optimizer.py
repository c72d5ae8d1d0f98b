"""The optimizer of a step, from an object or a name."""

from __future__ import annotations

import keras

from ...optim.common.messages import did_you_mean


def resolve_optimizer(
    optimizer: keras.optimizers.Optimizer | str, model: keras.Model
) -> keras.optimizers.Optimizer:
    """Returns the optimizer, in a `LossScaleOptimizer` for a mixed_float16 model; raises if it is none."""
    if isinstance(optimizer, str):
        try:
            optimizer = keras.optimizers.get(optimizer)
        except ValueError:
            names = [name.lower() for name in dir(keras.optimizers) if name[0].isupper()]
            raise ValueError(
                f"`optimizer` {optimizer!r} is no Keras optimizer."
                + (did_you_mean(optimizer, names) or " Pass one, or a name such as 'adam'.")
            ) from None
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        call = f": call it, `{optimizer.__name__}()`" if isinstance(optimizer, type) else ""
        raise TypeError(f"`optimizer` must be a Keras optimizer or its name, not {optimizer!r}{call}.")
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if model.dtype_policy.compute_dtype == "float16" and not scaled:
        return keras.optimizers.LossScaleOptimizer(optimizer, name=optimizer.name)
    return optimizer
