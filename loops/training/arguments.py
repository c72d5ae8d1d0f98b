"""The arguments of `train`, checked before anything changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from ...optim.common.arguments import whole_number
from ..callbacks.keras_bridge import check_averages
from ..checkpoint.checkpoint import Checkpoint
from ..step.train_step import TrainStep


def check_arguments(
    step: TrainStep, epochs: int, callbacks: Sequence[keras.callbacks.Callback], resume: bool
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks; TypeError or ValueError for arguments of `train` that it does not take."""
    if not isinstance(step, TrainStep):
        raise TypeError(f"`step` must be a `loops.TrainStep`, not {step!r}.")
    whole_number("epochs", epochs, at_least=1)
    if not _is_list(callbacks):
        raise TypeError(f"`callbacks` must be a list or tuple, not {callbacks!r}.")
    found = list(_flat(callbacks))
    for callback in found:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(f"`callbacks` holds {callback!r}, which is no `keras.callbacks.Callback`.")
    if not isinstance(resume, bool):
        raise TypeError(f"`resume` must be True or False, not {resume!r}.")
    _ = step.variables  # this binds an optimizer from a file to the model
    check_averages(found, step.inner_optimizer)
    return found


def _is_list(callbacks: object) -> bool:
    return isinstance(callbacks, (list, tuple)) or type(callbacks) is keras.callbacks.CallbackList


def _flat(callbacks: Any) -> Iterator[Any]:
    """Each one by itself: `fit` too takes lists in lists, and Keras' `CallbackList`."""
    for each in getattr(callbacks, "callbacks", callbacks):
        yield from _flat(each) if _is_list(each) else [each]


def find_checkpoint(
    checkpoint: str | os.PathLike[str] | Checkpoint | None, callbacks: Sequence[keras.callbacks.Callback]
) -> Checkpoint | None:
    """The one `Checkpoint` of a call, whichever way it was given."""
    found = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    if checkpoint is not None and checkpoint not in found:
        if not isinstance(checkpoint, (str, os.PathLike, Checkpoint)):
            raise TypeError(f"`checkpoint` must be a folder or a `loops.Checkpoint`, not {checkpoint!r}.")
        found.append(checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint))
    if len(found) > 1:
        raise ValueError(
            "There are several checkpoints in `checkpoint` and `callbacks`, and a run resumes from one: pass "
            "one `loops.Checkpoint`."
        )
    return found[0] if found else None
