"""Checks of what some steps did."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence

from ...optim import variable_infos
from .evidence import Evidence
from .report import NotApplicable, Verdict
from .trial import ENOUGH

LOWEST, HIGHEST = 1e-4, 1e-2
# However well the loss falls. The first steps of Adam, in which all weights move by the whole rate, may pass
# `HIGHEST` in a wide layer that trains well.
_FAR_TOO_HIGH = 0.1
_NO_RATE = 10.0  # nobody trains at such a rate: it is the gradients that are too small
_FIRST = 8  # steps that are not typical for this reason


def runs(seen: Evidence) -> Verdict:
    """Whether the step takes the data at all."""
    error = seen.trial.error or seen.start.error
    if error is not None:
        told = re.sub(r"\x1b\[\d*m", "", str(error))  # Keras writes what its layers raise in bold
        return [(f"a step raises {type(error).__name__}", " ".join(told.split()))]
    return f"{len(seen.trial.losses)} steps ran"


def update_ratio(seen: Evidence) -> Verdict:
    """Groups whose weights change by too much or too little in a step."""
    if seen.trial.error is not None:
        raise NotApplicable("the steps failed (see `step`)")
    fastest = max(group.highest for group in seen.groups)
    found, fine = [], []
    for group in seen.groups:
        ratios = seen.trial.ratios[group.name]
        if not ratios:
            fine.append(f"{group.name!r} did not move, as its rate is 0 or its weights are")
            continue
        ratio = statistics.median(ratios[_FIRST:] or ratios[-1:])
        second = sorted(ratios)[-2:][0]
        ratio = max(ratio, second) if second > _FAR_TOO_HIGH else ratio
        saw = f"a step changes {group.name!r} by {ratio:.2g} of its weights at the rate {group.highest:.2g}"
        # A group that is slowed on purpose may move by as much less.
        lowest = max(LOWEST * min(1.0, group.highest / fastest if fastest else 1.0), 1e-6)
        if second > _FAR_TOO_HIGH or (ratio > HIGHEST and not _falls(seen.trial.losses)):
            advice = f"a rate of about {group.highest * 3e-3 / ratio:.1g} changes it by 0.003"
            found.append((f"{saw}, more than {HIGHEST:g}", advice))
        elif ratio < lowest and (rate := group.highest * 1e-3 / ratio) > _NO_RATE and _frozen(seen) > 0.5:
            fine.append(f"{saw}, as what is frozen gives it next to nothing")
        elif ratio < lowest:
            advice = f"a rate of about {rate:.1g} changes it by 0.001"
            if rate > _NO_RATE:
                advice = "no rate mends that, as its gradients are close to 0: look at initial weights and "
                advice += "inputs"
            found.append((f"{saw}, less than {lowest:.1g}", advice))
        elif ratio > HIGHEST:
            fine.append(f"{saw}, which is much, and the loss falls")
        else:
            fine.append(saw)
    if not found and not any(seen.trial.ratios.values()):
        raise NotApplicable("; ".join(fine))
    return found or "; ".join(fine)


def _falls(losses: Sequence[float]) -> bool:
    third = max(1, len(losses) // 3)
    return statistics.fmean(losses[-third:]) < statistics.fmean(losses[:third])


def learned_by_heart(seen: Evidence) -> Verdict:
    """A few examples whose loss does not fall, however often they are seen."""
    learned = seen.learned
    if learned is None:
        raise NotApplicable("the steps failed (see `step`)")
    saw = f"{learned.steps} steps on {learned.examples} examples, by {learned.by}, "
    saw += f"took their loss from {learned.first:.3g} to {learned.last:.3g}"
    if learned.fell:
        return saw
    if learned.steps < ENOUGH:
        raise NotApplicable(f"{learned.steps} steps, all that there was time for, are too few to tell")
    if (share := _frozen(seen)) > 0.5:
        raise NotApplicable(
            f"{saw}, but {share:.0%} of the network are frozen, and may tell nothing of the inputs"
        )
    advice = "nearly every network can learn so few by heart: look for outputs that cannot reach the "
    advice += "targets, targets that do not belong to their inputs, and layers that let no gradient through"
    return [(saw, advice)]


def _frozen(seen: Evidence) -> float:
    """The share of the network's weights, in numbers, that do not train."""
    trained = sum(math.prod(variable.shape) for variable in seen.step.variables)
    every = sum(math.prod(info.variable.shape) for info in variable_infos(seen.step.model))
    return 1 - trained / max(1, every)
