"""Errors for outputs and targets that a Keras loss or metric cannot compare, before it fails deep inside."""

from __future__ import annotations

import keras
import tensorflow as tf

from ...optim.common.types import Tensors


def check_one_output(argument: str, judge: object, y: Tensors, predictions: Tensors) -> None:
    """Raises ValueError unless one of Keras' losses or metrics has one tensor of numbers on each side.

    Args:
        argument: the caller's name for it, "loss" or "metrics".
        judge: the loss or metric. A user's own may take what it likes.
        y: targets.
        predictions: what the model gave.
    """
    if isinstance(judge, (keras.losses.Loss, keras.metrics.Metric)):
        if not type(judge).__module__.startswith(("keras.", __package__)):
            return
    name = getattr(judge, "name", judge)
    for side, value in (("the model gives", predictions), ("`y` is", y)):
        if isinstance(value, (dict, list, tuple)):
            parts = ", ".join(map(repr, value)) if isinstance(value, dict) else f"{len(value)} parts"
            takes = "`(model, batch)`" if argument == "loss" else "`(y, predictions)`"
            kind = type(value).__name__
            raise ValueError(
                f"`{argument}` {name!r} compares one `y` with one output, and {side} a {kind} of "
                f"{parts}: pass a function of {takes} that takes them apart. (A loss or metrics for each "
                "output, as `compile` takes them, are not there yet.)"
            )
    if getattr(y, "dtype", None) == tf.string:
        raise ValueError(
            f"`y` holds strings, and `{argument}` {name!r} takes numbers: convert them, for example with "
            "`keras.layers.StringLookup`, before they are passed."
        )
