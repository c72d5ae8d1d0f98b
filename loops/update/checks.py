"""Checks of the arguments of `Update`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from ...optim import GroupedOptimizer
from ...optim.common.arguments import real_number, whole_number
from ...optim.common.messages import short_repr
from ...optim.common.optimizers import SHARED_SETTINGS, inner_optimizer, overridden
from ...optim.common.types import Gradient, Scalar
from ...optim.gradients.given import is_new_value
from ..support.keras_private import built_variables, excludes_variables, knows_variable
from .restore import asks_to_restore

ON_NONFINITE = ("raise", "skip", "ignore")


def check_update_options(clip_norm: float | None, accumulate: int, on_nonfinite: object) -> None:
    """Raises TypeError or ValueError for an invalid option of `Update`."""
    if clip_norm is not None:
        real_number("clip_norm", clip_norm, above=0)
    whole_number("accumulate", accumulate, at_least=1)
    if asks_to_restore(on_nonfinite):
        raise ValueError(
            f"`on_nonfinite` is {on_nonfinite!r}, and an `Update` knows of no checkpoint: make a `TrainStep` "
            "with it, for `train`; in a loop of your own catch the `NonFiniteError`, `restore` your "
            "`Checkpoint`, and lower the rate."
        )
    if on_nonfinite not in ON_NONFINITE:
        options = ", ".join(map(repr, ON_NONFINITE))
        raise ValueError(
            f"`on_nonfinite` must be one of {options}, not {on_nonfinite!r}. (A `TrainStep` also takes "
            "'restore' or a `loops.Restore`, for `train`.)"
        )


def variable_list(variables: object) -> list[keras.Variable]:
    """The argument `variables` as a list; TypeError for anything but Keras variables, ValueError if empty."""
    values = variables.values() if isinstance(variables, Mapping) else variables
    if not isinstance(values, Iterable):
        raise TypeError(
            "`variables` must be a list of variables, such as `model.trainable_variables`, or a dict of them "
            f"by name, not {short_repr(variables)}."
        )
    listed = list(values)
    for variable in listed:
        if not isinstance(variable, keras.Variable):
            raise TypeError(
                f"`variables` holds {short_repr(variable)}, which is no Keras variable: take a model's, such "
                "as `model.trainable_variables`, or make one by `keras.Variable(value)`."
            )
    if not listed:
        raise ValueError(
            "`variables` is empty: name at least one variable to train. (A model that is not built has "
            "none yet: call it on a batch.)"
        )
    return listed


def check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises TypeError for no Keras optimizer, ValueError if some of its settings would be ignored."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(f"`optimizer` must be a Keras optimizer, not {optimizer!r}.")
    check_optimizer_methods(optimizer)
    check_loss_scale_settings(optimizer)
    check_optimizer_methods(inner_optimizer(optimizer))


def check_loss_scale_settings(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises ValueError for settings of a `LossScaleOptimizer`, which does not pass them to the inner one."""
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return
    found = [
        f"{s}={getattr(optimizer, s)!r}" for s in ("weight_decay", *SHARED_SETTINGS) if getattr(optimizer, s)
    ]
    found += ["exclude_from_weight_decay(...)"] if excludes_variables(optimizer) else []
    if found:
        raise ValueError(
            f"`optimizer` is a LossScaleOptimizer with `{found[0]}`, which Keras reads on the inner "
            "optimizer alone: set it on `optimizer.inner_optimizer`."
        )


def check_optimizer_methods(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises ValueError for a subclass that overrides a method which Keras calls and `Update` does not."""
    bases = {
        keras.optimizers.LossScaleOptimizer: (
            *("apply_gradients", "apply", "check_finite", "_tf_apply"),
            *("_stateful_handle_finite_grads", "_stateful_handle_non_finite_grads"),
        ),
        GroupedOptimizer: ("apply_gradients", "apply"),
    }
    for base, methods in bases.items():
        own = overridden(type(optimizer), base, methods) if isinstance(optimizer, base) else []
        if own:
            raise ValueError(
                f"`optimizer` is a {type(optimizer).__name__} whose own `{own[0]}` would not be called: "
                f"`Update` does itself what {base.__name__} does there. Override it in the optimizer inside."
            )


def check_built_for(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable], names: Sequence[str]
) -> None:
    """Raises ValueError if a built optimizer cannot train these variables, or cannot train them alone."""
    for name, variable in zip(names, variables):
        if not knows_variable(optimizer, variable):
            raise ValueError(
                f"`optimizer` was built without {name!r}, so it has no state for it. Build it over all "
                "variables before the first step: `optimizer.build(model.trainable_variables)`."
            )
    if isinstance(optimizer, GroupedOptimizer):
        return
    written = [name for name, variable in zip(names, variables) if is_new_value(variable)]
    if optimizer.use_ema and written:
        raise ValueError(
            f"`optimizer` has `use_ema=True`, and {written[0]!r} is a scale of a float8 layer: Keras keeps "
            "no average of it and fails when it puts averages in place. Wrap it in `optim.GroupedOptimizer`."
        )
    if [id(variable) for variable in variables] == [id(v) for v in built_variables(optimizer)]:
        return
    if isinstance(optimizer, getattr(keras.optimizers, "MultiOptimizer", ())):  # older Keras versions lack it
        raise ValueError(
            "`optimizer` is a MultiOptimizer, which updates all variables that it was built over, and is "
            "to train a part of them: use `optim.GroupedOptimizer`, which takes an optimizer for each "
            "group by `optim.Group(..., optimizer=...)`."
        )
    # Keras pairs averages with variables by position, which is wrong for a subset.
    if optimizer.use_ema:
        raise ValueError(
            "`optimizer` has `use_ema=True` and was built over other variables than it is to train: "
            "Keras would average the wrong ones. Build it over these alone, with "
            "`optimizer.build(variables)`, or train all that it was built over."
        )


def check_betas(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable], names: Sequence[str]
) -> None:
    """Raises ValueError if a decay rate of moments is 1 in the dtype of a variable, as 0.999 in bfloat16.

    Keras divides by one minus its power in that dtype: Adam then changes no weight, Nadam makes it NaN.
    """
    for name, variable in zip(names, variables):
        owner = _optimizer_of(optimizer, variable)
        if not any(
            isinstance(owner, c) and type(owner).update_step is c.update_step for c in _BIAS_CORRECTED
        ):
            continue  # a subclass may compute otherwise
        for beta in ("beta_1", "beta_2"):
            value = getattr(owner, beta)
            rounded = float(np.asarray(value).astype(tf.as_dtype(variable.dtype).as_numpy_dtype))
            if value < 1 and rounded == 1:
                raise ValueError(
                    f"`optimizer` is {type(owner).__name__} with `{beta}={value}`, which is 1 in "
                    f"{variable.dtype}, the dtype of {name!r}: Keras would not move it, or make NaN of it. "
                    "Make the layers with `dtype='mixed_bfloat16'`, whose weights are float32, or take a "
                    f"lower `{beta}`, such as 0.99."
                )


# Optimizers with bias correction of their moments, as far as this Keras version has them.
_BIAS_CORRECTED = tuple(
    getattr(keras.optimizers, name)
    for name in ("Adam", "Lamb", "Nadam", "ScheduleFreeAdamW")
    if hasattr(keras.optimizers, name)
)


def _optimizer_of(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> keras.optimizers.Optimizer | None:
    """The optimizer whose class updates a variable; None for TensorFlow's kernels, which refuse bfloat16."""
    if not isinstance(optimizer, GroupedOptimizer):
        return optimizer
    for updater in optimizer.grouped_update.updaters:
        if any(member.variable is variable for member in updater.members):
            return getattr(updater, "optimizer", None)
    return None


def check_not_frozen(
    variables: Sequence[keras.Variable], trained: Sequence[bool], names: Sequence[str]
) -> None:
    """Raises ValueError if a variable was trainable and has `trainable = False` now."""
    for name, variable, was in zip(names, variables, trained):
        if was and not variable.trainable:
            raise ValueError(
                f"`variables` holds {name!r}, whose `trainable` is False since the `Update` was made, and "
                "would train on: make another `Update` for what is to train, with the same optimizer."
            )


def check_gradients(gradients: Sequence[Gradient | None], names: Sequence[str]) -> None:
    """Raises ValueError unless there is a gradient for each variable."""
    if len(gradients) != len(names):
        raise ValueError(
            f"`gradients` has {len(gradients)} entries for {len(names)} variables: pass "
            "`tape.gradient(loss, update.variables)`."
        )
    missing = [name for name, g in zip(names, gradients) if g is None]
    if missing:
        them = "it" if len(missing) == 1 else "them"
        raise ValueError(
            f"The loss has no gradient for {', '.join(map(repr, missing))}: it does not depend on {them}, or "
            f"was computed outside of the tape. Leave {them} out of `variables`, or use {them} in the loss."
        )


def check_weight(weight: Scalar | float) -> Scalar:
    """Returns the weight of a call as a float32 scalar; ValueError for another shape."""
    number = tf.cast(tf.convert_to_tensor(weight), tf.float32)
    if number.shape.rank != 0:
        raise ValueError(
            f"`weight` has shape {number.shape}, and is one number, what the call counts: the number of its "
            "examples, say, `tf.shape(y)[0]`, or the sum of their weights, `tf.reduce_sum(weight)`."
        )
    return number
