"""The metadata of a checkpoint: JSON with these keys, which are the format on disk."""

from __future__ import annotations

from typing import Any, TypedDict

from ...optim.common.types import Json

# 1: complete with its values; 2: with its manifest. Both are read.
FORMAT = 2


class GroupSettings(TypedDict):
    """What may change in a group while its plan is in force."""

    frozen: bool
    lr_scale: float
    learning_rate: float | None  # None for a schedule's


class TrainedVariables(TypedDict):
    """What was chosen to train."""

    variables: list[str]  # stable names
    groups: dict[str, GroupSettings] | None  # of the optimizer's plan
    accumulate: int


class CallbackState(TypedDict, total=False):
    """What one callback remembers."""

    own: Json  # what its `state()` returned
    stock: dict[str, Json]  # attributes of one of Keras'
    monitor: str  # what that looks at


class RunMetadata(TypedDict):
    """Where a run of `train` stood."""

    epoch: int  # the next one or, if `batch` is not 0, the one that was running
    batch: int  # how many of its batches had run
    means: dict[str, Any] | None  # `RunningMeans.state()` within an epoch; None between two
    logs: dict[str, float]  # of the last epoch that ended
    history: dict[str, list[float]]  # this and the next: of the `History`
    epochs: list[int]
    steps: int | None  # batches in an epoch; None where only reading tells
    measures: list[str]  # names of the metrics
    callbacks: dict[str, CallbackState]  # by the names that `CallbackStates` makes
    ended: bool  # whether a callback ended training


class ObjectMetadata(TypedDict):
    """One object of a dict that was saved."""

    kind: str
    made: dict[str, Json]  # what must be the same where it is restored
    settings: dict[str, Json]  # what may be another, which is told
    note: Any  # what is restored beside variables


class Metadata(TypedDict, total=False):
    """All of it."""

    format: int
    choice: TrainedVariables  # this and the next two: of a step
    settings: dict[str, Json]  # what it was made with
    watched: dict[str, list[int]]  # where its watches stand
    objects: dict[str, ObjectMetadata]  # of a dict
    data: dict[str, Any] | None  # `position_of` the iterator, to which `train` adds; None without one
    run: RunMetadata  # if `train` wrote the checkpoint
    metrics: dict[str, float]  # logs of the epoch that ended here; what `save` was given
    modes: dict[str, str]  # "min" or "max" for metrics of which it is known
