"""Checks of what training steps changed."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence

from ...optim import variable_infos
from .evidence import Evidence
from .report import NotApplicable, Verdict
from .trial import MIN_OVERFIT_STEPS

MIN_RATIO, MAX_RATIO = 1e-4, 1e-2
# A fault even if the loss falls. The first steps of Adam, in which all weights move by the whole rate, may
# exceed `MAX_RATIO` in a wide layer that trains well.
_FAR_TOO_HIGH = 0.1
_MAX_RATE = 10.0  # where a higher rate would be needed, the gradients are too small
_FIRST_STEPS = 8  # not typical, for this reason


def step_runs(evidence: Evidence) -> Verdict:
    """Whether a step runs on the data at all."""
    error = evidence.trial.error or evidence.first_pass.error
    if error is not None:
        text = re.sub(r"\x1b\[\d*m", "", str(error))  # Keras prints the errors of its layers in bold
        return [(f"a step raises {type(error).__name__}", " ".join(text.split()))]
    return f"{len(evidence.trial.losses)} steps ran"


def update_ratio(evidence: Evidence) -> Verdict:
    """Groups whose weights change by too much or too little in a step."""
    if evidence.trial.error is not None:
        raise NotApplicable("the steps failed (see `step`)")
    fastest = max(group.highest for group in evidence.groups)
    frozen = _frozen_share(evidence)
    faults, fine = [], []
    for group in evidence.groups:
        ratios = evidence.trial.ratios[group.name]
        if not ratios:
            fine.append(f"{group.name!r} did not move, as its rate is 0 or its weights are")
            continue
        ratio = statistics.median(ratios[_FIRST_STEPS:] or ratios[-1:])
        second = sorted(ratios)[-2:][0]
        ratio = max(ratio, second) if second > _FAR_TOO_HIGH else ratio
        observation = f"a step changes {group.name!r} by {ratio:.2g} of its weights "
        observation += f"at the rate {group.highest:.2g}"
        # A group whose rate the plan lowers may change by as much less.
        lowest = max(MIN_RATIO * min(1.0, group.highest / fastest if fastest else 1.0), 1e-6)
        if second > _FAR_TOO_HIGH or (ratio > MAX_RATIO and not _falls(evidence.trial.losses)):
            advice = f"a rate of about {group.highest * 3e-3 / ratio:.1g} changes it by 0.003"
            faults.append((f"{observation}, more than {MAX_RATIO:g}", advice))
        elif ratio < lowest and (rate := group.highest * 1e-3 / ratio) > _MAX_RATE and frozen > 0.5:
            fine.append(f"{observation}, as what is frozen gives it next to nothing")
        elif ratio < lowest:
            advice = f"a rate of about {rate:.1g} changes it by 0.001"
            if rate > _MAX_RATE:
                advice = "no rate mends that, as its gradients are close to 0: look at initial weights and "
                advice += "inputs"
            faults.append((f"{observation}, less than {lowest:.1g}", advice))
        elif ratio > MAX_RATIO:
            fine.append(f"{observation}, which is much, and the loss falls")
        else:
            fine.append(observation)
    if not faults and not any(evidence.trial.ratios.values()):
        raise NotApplicable("; ".join(fine))
    return faults or "; ".join(fine)


def _falls(losses: Sequence[float]) -> bool:
    third = max(1, len(losses) // 3)
    return statistics.fmean(losses[-third:]) < statistics.fmean(losses[:third])


def overfits_few_examples(evidence: Evidence) -> Verdict:
    """A network that cannot overfit a few examples: their loss does not fall."""
    result = evidence.overfit
    if result is None:
        raise NotApplicable("the steps failed (see `step`)")
    observation = f"{result.steps} steps on {result.examples} examples, by {result.optimizer}, "
    observation += f"took their loss from {result.loss_before:.3g} to {result.loss_after:.3g}"
    if result.fell:
        return observation
    if result.steps < MIN_OVERFIT_STEPS:
        raise NotApplicable(f"{result.steps} steps, all that there was time for, are too few to tell")
    if (share := _frozen_share(evidence)) > 0.5:
        raise NotApplicable(
            f"{observation}, but {share:.0%} of the network are frozen, and may tell nothing of the inputs"
        )
    advice = "nearly every network can overfit so few: look for outputs that cannot reach the "
    advice += "targets, targets that do not belong to their inputs, and layers that let no gradient through"
    return [(observation, advice)]


def _frozen_share(evidence: Evidence) -> float:
    """The share of the network's parameters that do not train, 0 to 1."""
    trained = sum(math.prod(variable.shape) for variable in evidence.step.variables)
    every = sum(math.prod(info.variable.shape) for info in variable_infos(evidence.step.model))
    return 1 - trained / max(1, every)
