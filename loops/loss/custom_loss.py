"""A loss function of the user's own, and how a step calls it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeAlias

import keras

from ...optim.common.types import Batch, Scalar, Tensors
from .loss_call_hooks import LOSS_CALL_HOOKS
from .mean_loss import STEP_LOSS, StepLoss

# Of `(model, batch)`, and of `training` if it has such a parameter; returns the scalar loss or
# `(loss, predictions)`.
LossFunction: TypeAlias = Callable[..., Scalar | tuple[Scalar, Tensors]]


class CustomLoss:
    """A user's loss function, called within a step.

    Raises:
        TypeError: a function of `(y_true, y_pred)`.
    """

    def __init__(self, function: LossFunction) -> None:
        parameters = list(inspect.signature(function).parameters)
        if parameters[:1] in (["y_true"], ["y"]):
            raise TypeError(
                f"`loss` is a function of {', '.join(parameters)}, and a step calls it with (model, "
                "batch): pass `lambda model, batch, training=True: loops.mean_loss(function(batch[1], "
                "model(batch[0], training=training)))`."
            )
        self._function = function
        self._tells_training = "training" in parameters

    def check_evaluates(self) -> None:
        """Raises ValueError if the function cannot be told that it is not training."""
        if not self._tells_training:
            raise ValueError(
                "`loss` is a function without a parameter `training`, so dropout and BatchNorm would run "
                "in training mode during evaluation. Write it as `def loss(model, batch, training=True)` "
                "and pass `training` on to the model."
            )

    def __call__(
        self, model: keras.Model, batch: Batch, training: bool, step: StepLoss
    ) -> tuple[Scalar, Tensors]:
        """The loss and the predictions, None if the function does not return these.

        Args:
            step: what the step tells `mean_loss`, and is told by it.

        Raises:
            ValueError: the loss is no scalar.
        """
        batch = batch if isinstance(batch, tuple) else (batch,)  # Keras packs an `x` alone as it is
        arguments = {"training": training} if self._tells_training else {}
        token = STEP_LOSS.set(step)
        try:
            with LOSS_CALL_HOOKS.installed():
                result = self._function(model, batch, **arguments)
        finally:
            STEP_LOSS.reset(token)
        loss, predictions = result if isinstance(result, tuple) else (result, None)
        if loss.shape.rank != 0:
            raise ValueError(
                f"The `loss` function returned shape {loss.shape}, not a scalar: reduce it, for "
                "example with `loops.mean_loss`."
            )
        return loss, predictions
