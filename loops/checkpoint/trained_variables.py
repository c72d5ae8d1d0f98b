"""Which variables a step trains, with the settings of their groups: saved, checked, and chosen again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from ...optim import Group, GroupedOptimizer, Plan
from ...optim.common.messages import first_few
from ...optim.naming.model_tree import ModelTree
from ..step.train_step import TrainStep
from ..step.trainable import names_of, plan_of
from ..update.restore import RATE_CUTS
from ..update.spikes import LAST_LOSSES
from .metadata import GroupSettings, TrainedVariables
from .tensor_file import TensorFile


def trained_variables_of(step: TrainStep, names: Mapping[int, str] | None = None) -> TrainedVariables:
    """What a step trains, for `train_as_saved`; `names` are those of its state by `id`, if they are known."""
    plan, chosen = plan_of(step), step.chosen
    return {
        "variables": names_of(step, chosen) if names is None else [names[id(each)] for each in chosen],
        "groups": None if plan is None else groups_of(plan),
        "accumulate": step.accumulate,
    }


def check_trained_variables(step: TrainStep, file: TensorFile) -> None:
    """Raises ValueError unless a step can train what a loaded checkpoint says, and take its values."""
    choice, plan = file.metadata["choice"], plan_of(step)
    known = set(names_of(step, step.model.trainable_variables))
    strange = [name for name in choice["variables"] if name not in known]
    if strange:
        raise ValueError(
            f"The checkpoint {file.path!r} trained {first_few(strange)}, which the model cannot: it is of "
            "another model, or layers of this one have `trainable=False` since."
        )
    check_groups("`optimizer`", None if plan is None else groups_of(plan), choice["groups"], file.path)
    if choice["accumulate"] != step.accumulate:
        raise ValueError(
            f"`accumulate` is {step.accumulate}, and the checkpoint {file.path!r} was made with "
            f"{choice['accumulate']}: make the step as it was, or name another folder."
        )
    _add_total_weight(step, file)
    _fit_last_losses(step, file)
    _fit_rate_cuts(step, file)
    accumulated = "accumulated/"  # its names are those of what trains, which may still differ
    state = {name: value for name, value in step.state().items() if not name.startswith(accumulated)}
    file.check(state, but=[accumulated, *([] if step.rate_cuts is not None else [RATE_CUTS])])


def _add_total_weight(step: TrainStep, file: TensorFile) -> None:
    """Completes what was saved when each batch counted the same, whatever its size."""
    calls, total = (f"accumulated/{name}" for name in ("calls", "total_weight"))
    if calls not in file.values or total in file.values:
        return
    if file.values[calls] % step.accumulate:
        raise ValueError(
            f"The checkpoint {file.path!r} was written between two updates by an older version, which did "
            "not save what the batches of its accumulated gradients count: go on with that version up to an "
            "update, or name another folder."
        )
    file.values[total] = tf.zeros(())


def _fit_last_losses(step: TrainStep, file: TensorFile) -> None:
    """Has none known of a step with another `on_spike` than the one that was saved."""
    here = step.last_losses
    if here is None:
        file.values.pop(LAST_LOSSES, None)
    elif file.values.get(LAST_LOSSES, np.zeros(0)).shape != here.losses.shape:
        file.values[LAST_LOSSES] = np.full(here.losses.shape, np.nan)


def _fit_rate_cuts(step: TrainStep, file: TensorFile) -> None:
    """Has none made of a step that was saved without any."""
    if step.rate_cuts is not None:
        file.values.setdefault(RATE_CUTS, np.zeros((), np.int64))


def train_as_saved(step: TrainStep, choice: TrainedVariables, tree: ModelTree | None = None) -> None:
    """Has a step train what `trained_variables_of` returned, with the same settings of groups.

    `tree` is that of its model, if it is known.
    """
    if plan_of(step) is not None:
        set_groups(step.inner_optimizer, choice["groups"] or {})
    named = {info.name: info.variable for info in (tree or step.named.tree).infos}
    chosen = {id(variable) for variable in step.chosen}
    if [name for name, variable in named.items() if id(variable) in chosen] != choice["variables"]:
        step.train_only(*(named[name] for name in choice["variables"]))


def groups_of(plan: Plan) -> dict[str, GroupSettings]:
    """The settings of a plan's groups that may be changed while it is in force."""
    return {name: _settings(group) for name, group in plan.groups.items()}


def check_groups(
    owner: str, here: Mapping[str, object] | None, there: Mapping[str, object] | None, path: str
) -> None:
    """Raises ValueError if the groups of an optimizer, None for no plan, are not those of a checkpoint."""
    if (here and list(here)) != (there and list(there)):
        names = [", ".join(given) if given else "none" for given in (here, there)]
        raise ValueError(
            f"{owner} has the groups {names[0]}, and the checkpoint {path!r} was made with "
            f"{names[1]}: make the plan as it was, or name another folder."
        )


def set_groups(optimizer: GroupedOptimizer, groups: Mapping[str, GroupSettings]) -> None:
    """Gives the groups of an optimizer's plan the settings that `groups_of` returned."""
    for name, settings in groups.items():
        _set_group(optimizer, name, _settings(optimizer.plan.groups[name]), settings)


def _settings(group: Group) -> GroupSettings:
    rate = group.learning_rate
    return {
        "frozen": group.frozen,
        "lr_scale": group.lr_scale,
        "learning_rate": rate if isinstance(rate, float) else None,
    }


def _set_group(optimizer: GroupedOptimizer, name: str, now: GroupSettings, wanted: GroupSettings) -> None:
    if now["frozen"] != wanted["frozen"]:
        (optimizer.freeze if wanted["frozen"] else optimizer.unfreeze)(name)
    if now["lr_scale"] != wanted["lr_scale"]:
        optimizer.rescale(name, wanted["lr_scale"])
    before, after = now["learning_rate"], wanted["learning_rate"]
    if before is not None and after is not None and before != after:
        optimizer.set_learning_rate(name, after)
