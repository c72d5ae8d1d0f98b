"""Which checkpoints are kept: small values, of which any may keep one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from ...optim.common.arguments import whole_number
from ...optim.common.messages import did_you_mean, short_repr


@dataclass(frozen=True)
class Entry:
    """What is known of a checkpoint when it is decided whether it is kept.

    Attributes:
        number: N of `checkpoint-N`.
        step: batches that were done; None where nothing counts them.
        metrics: logs of the epoch that ended there, or what `Checkpoint.save` was given.
        modes: "min" or "max" for metrics of which it is known which is better.
    """

    number: int
    step: int | None
    metrics: Mapping[str, float]
    modes: Mapping[str, str]


@runtime_checkable
class Policy(Protocol):
    """Says which checkpoints to keep."""

    def keeps(self, found: Sequence[Entry]) -> Collection[int]:
        """The numbers of those to keep, of all that there are, in order; the newest is last."""


Keep: TypeAlias = int | Sequence[Policy]


@dataclass(frozen=True)
class Latest(Policy):
    """Keeps the newest checkpoints, for `Checkpoint(keep=[...])`.

    Args:
        count: how many, at least 1.

    Raises:
        TypeError, ValueError: `count` is no whole number, or below 1.

    Example:
        >>> import os, tempfile, keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step = loops.TrainStep(model, "mse", "adam")
        >>> data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        >>> checkpoint = loops.Checkpoint(tempfile.mkdtemp(), keep=[loops.Latest(2)])
        >>> _ = loops.train(step, data, epochs=5, checkpoint=checkpoint)
        >>> sorted(each for each in os.listdir(checkpoint.folder) if each.startswith("checkpoint"))
        ['checkpoint-4', 'checkpoint-5']
    """

    count: int = 1

    def __post_init__(self) -> None:
        whole_number("count", self.count, at_least=1)

    def keeps(self, found: Sequence[Entry]) -> Collection[int]:
        return [entry.number for entry in found[-self.count :]]


@dataclass(frozen=True)
class Every(Policy):
    """Keeps one checkpoint every `steps` batches, for `Checkpoint(keep=[...])`.

    It keeps the first one at or after each multiple of `steps`.

    Args:
        steps: batches from one kept checkpoint to the next, at least 1.

    Raises:
        TypeError, ValueError: `steps` is no whole number, or below 1.

    Example:
        >>> import os, tempfile, keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step = loops.TrainStep(model, "mse", "adam")
        >>> data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        >>> checkpoint = loops.Checkpoint(tempfile.mkdtemp(), keep=[loops.Latest(1), loops.Every(steps=4)])
        >>> _ = loops.train(step, data, epochs=5, checkpoint=checkpoint)  # 2 batches each
        >>> sorted(each for each in os.listdir(checkpoint.folder) if each.startswith("checkpoint"))
        ['checkpoint-2', 'checkpoint-4', 'checkpoint-5']
    """

    steps: int

    def __post_init__(self) -> None:
        whole_number("steps", self.steps, at_least=1)

    def keeps(self, found: Sequence[Entry]) -> Collection[int]:
        kept, before, last = [], 0, 0
        for entry in found:
            if entry.step is None:
                continue
            if entry.step < before:  # another run began here
                last = 0
            before, multiple = entry.step, entry.step // self.steps
            if multiple > last:
                kept.append(entry.number)
                last = multiple
        return kept


@dataclass(frozen=True)
class Best(Policy):
    """Keeps the checkpoints with the best values of a metric, for `Checkpoint(keep=[...])`.

    In `train`, the checkpoint at the end of an epoch has metrics: the epoch's logs. Of equal values the
    earliest is best; NaN is never best. `Checkpoint.best` is the path of the best checkpoint, of all in the
    folder: an earlier run's too, where `resume=False` began another one.

    Args:
        metric: its name in the logs, `val_` included.
        mode: "min" if less is better, "max" if more is, "auto" to know it from the metric as Keras'
            `ModelCheckpoint` does.
        count: how many, at least 1.

    Raises:
        TypeError: `metric` is no name, or `count` no whole number.
        ValueError: an unknown `mode`, or `count` below 1.

    Example:
        >>> import tempfile, keras, numpy as np
        >>> from gradloop import loops, models
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
        >>> step = loops.TrainStep(model, "mse", "adam")
        >>> data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        >>> keep = [loops.Latest(3), loops.Best("val_loss")]
        >>> checkpoint = loops.Checkpoint(tempfile.mkdtemp(), keep=keep)
        >>> _ = loops.train(step, data, epochs=5, validation=data, checkpoint=checkpoint)
        >>> checkpoint.best == checkpoint.newest  # the loss fell in each epoch
        True
    """

    metric: str
    mode: Literal["auto", "min", "max"] = "auto"
    count: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or not self.metric:
            raise TypeError(f'`metric` must be a name in the logs, such as "val_loss", not {self.metric!r}.')
        if self.mode not in ("auto", "min", "max"):
            raise ValueError(f'`mode` must be "auto", "min" or "max", not {self.mode!r}.')
        whole_number("count", self.count, at_least=1)

    def keeps(self, found: Sequence[Entry]) -> Collection[int]:
        known = [entry for entry in found if not math.isnan(entry.metrics.get(self.metric, math.nan))]
        mode = self.resolved_mode(known)
        if mode is None:  # in doubt, all
            return [entry.number for entry in known]
        sign = 1 if mode == "min" else -1
        ranked = sorted(known, key=lambda entry: (sign * entry.metrics[self.metric], entry.number))
        return [entry.number for entry in ranked[: self.count]]

    def resolved_mode(self, found: Sequence[Entry]) -> str | None:
        """Which is better, "min" or "max", by the newest entry that knows it; None if none does."""
        if self.mode != "auto":
            return self.mode
        if self.metric in ("loss", "val_loss"):
            return "min"
        known = [entry.modes[self.metric] for entry in found if self.metric in entry.modes]
        return known[-1] if known else None


def policies_of(keep: Keep) -> Sequence[Policy]:
    """The policies that an argument `keep` stands for; TypeError or ValueError for what it cannot be."""
    if not isinstance(keep, (list, tuple)):
        if isinstance(keep, Policy):
            raise TypeError(f"`keep` must be a number or a list: write keep=[{keep!r}].")
        return [Latest(whole_number("keep", keep, at_least=1))]
    if not keep:
        raise ValueError(
            "`keep` is empty, so no checkpoint would stay: pass how many of the newest to keep, or what "
            'else, as in [loops.Latest(3), loops.Best("val_loss")].'
        )
    for policy in keep:
        if not isinstance(policy, Policy) or isinstance(policy, type):
            raise TypeError(
                f"`keep` holds {short_repr(policy)}, which says of no checkpoint whether to keep it: use "
                "loops.Latest(3), loops.Best(metric), loops.Every(steps=...)."
            )
    return list(keep)


def check_policies(policies: Iterable[Policy], found: Sequence[Entry], *, may_come: bool = False) -> None:
    """Raises ValueError for policies that have nothing to go by in what is known of checkpoints.

    With `may_come`, metrics may be known later: then those that a `Best` lacks are a warning.
    """
    logged = sorted({name for entry in found for name in entry.metrics})
    for policy in policies:
        if isinstance(policy, Every) and all(entry.step is None for entry in found):
            raise ValueError(
                f"`keep` has {policy}, and what is saved counts no steps: save a `TrainStep`, an `Update` or "
                "an optimizer with it, or keep by loops.Latest and loops.Best."
            )
        if not isinstance(policy, Best):
            continue
        if policy.metric not in logged and may_come:
            warnings.warn(
                f"`keep` has {policy}, and {policy.metric!r} is not known yet: until `save(..., "
                "metrics={...})` gives it, the rest of `keep` decides alone.",
                stacklevel=5,
            )
        elif policy.metric not in logged:
            raise ValueError(
                f"`keep` has {policy}, and {policy.metric!r} is not logged: logged are "
                f"{', '.join(logged) or 'no metrics'}.{did_you_mean(policy.metric, logged)} (In a loop of "
                "your own, `save(..., metrics={...})` logs.)"
            )
        elif policy.resolved_mode(found) is None:
            raise ValueError(
                f"`keep` has {policy}, and whether less or more of {policy.metric!r} is better is not known: "
                'say mode="min" or mode="max".'
            )


def best_of(policies: Iterable[Policy], found: Sequence[Entry]) -> int | None:
    """The number of the best checkpoint by the first `Best`; None if there is none.

    ValueError without a `Best`, or if it has nothing to go by.
    """
    best = next((policy for policy in policies if isinstance(policy, Best)), None)
    if best is None:
        raise ValueError(
            'No metric says which is best: pass `keep=[loops.Latest(3), loops.Best("val_loss")]`, say.'
        )
    if any(entry.metrics for entry in found):
        check_policies([best], found)
    return next(iter(replace(best, count=1).keeps(found)), None)
