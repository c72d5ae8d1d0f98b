"""Which settings of a call and of the checkpoint that it resumes differ, and which of the two win.

What changes while a run goes on (the learning rate, what trains, the settings of groups that may be set) is
part of the state, so the checkpoint's win. All else is the call's. Either way the difference is told.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import keras
import tensorflow as tf

from ...optim.common.messages import short_repr
from ...optim.common.optimizers import inner_optimizer
from ...optim.common.types import Json
from ...optim.naming.model_tree import ModelTree
from ...optim.private.keras_private import uses_weight_decay
from ..distribute.cluster import is_chief
from ..loss.keras_loss import resolve_loss
from ..loss.loss_and_metrics import Loss
from ..step.named_model import Variable
from ..step.train_step import TrainStep
from ..support.keras_private import loss_arguments
from ..update.restore import RATE_CUTS, setting_of
from ..update.spikes import LastLosses
from .layer_settings import is_json, layer_settings
from .metadata import GroupSettings, Metadata, TrainedVariables
from .tensor_file import TensorFile
from .trained_variables import trained_variables_of

_LAYERS = "layers/"  # begins the names of settings of layers
_TOLD = 12  # differences, more than which are counted

# What each object was made with: what a run changes later, such as the learning rate, no user has changed.
_made_with: WeakKeyDictionary[object, dict[str, Json]] = WeakKeyDictionary()


def made_with(owner: object, settings: Callable[[], dict[str, Json]]) -> dict[str, Json]:
    """The settings that an object had when this, or `compared`, was first called for it."""
    if owner not in _made_with:
        _made_with[owner] = settings()
    return _made_with[owner]


def settings_of(step: TrainStep) -> dict[str, Json]:
    """The settings that a step has now: name -> what JSON holds."""
    own = {
        "loss": _loss_of(step.loss),
        "clip_norm": step.clip_norm,
        "on_nonfinite": setting_of(step.on_nonfinite),
        "on_spike": LastLosses.settings(step.last_losses),
        "carry": step.carry,
    }
    tree = step.named.tree
    optimizer = optimizer_settings(step.optimizer, {info.name: info.variable for info in tree.infos})
    choice = trained_variables_of(step, {id(info.variable): info.name for info in tree.infos})
    own = {name: value for name, value in own.items() if is_json(value)}
    return {**_of_state(choice), **optimizer, **own, **model_settings(tree)}


def model_settings(tree: ModelTree) -> dict[str, Json]:
    """The settings that the layers of a model have now, and which of them have `trainable` off."""
    frozen = [node.path for node in tree.nodes if not node.layer.trainable]
    return {"frozen_layers": frozen, **{_LAYERS + n: v for n, v in layer_settings(tree).items()}}


def optimizer_settings(
    optimizer: keras.optimizers.Optimizer, weights: Mapping[str, Variable]
) -> dict[str, Json]:
    """The settings that an optimizer has now, over weights by name; its class is under "optimizer"."""
    inner = inner_optimizer(optimizer)
    config = _config_of(inner)
    kind = type(inner).__name__
    exempt, groups = config.get("exempt", []), {}
    if "plan" in config:  # of a `GroupedOptimizer`
        groups = _of_plan(config["plan"])
        kind, config = config["optimizer"]["class_name"], config["optimizer"]["config"]
    elif config.get("weight_decay"):
        exempt = [name for name, v in weights.items() if v.trainable and not uses_weight_decay(inner, v)]
    config = {name: value for name, value in config.items() if name != "name"}
    config["exclude_from_weight_decay"] = exempt
    if optimizer is not inner:
        config |= {name: getattr(optimizer, name) for name in ("initial_scale", "dynamic_growth_steps")}
    return {"optimizer": kind, **{n: v for n, v in config.items() if is_json(v)}, **groups}


def _config_of(made: keras.optimizers.Optimizer | keras.losses.Loss) -> dict[str, Any]:
    try:
        config: dict[str, Any] = made.get_config()
    except NotImplementedError:  # of the user's own
        config = {}
    return config


def _of_plan(plan: dict[str, Any]) -> dict[str, Json]:
    """The settings and the variables of each group of a plan's config."""
    found: dict[str, Json] = {}
    for name, group in plan["groups"].items():
        found[f"groups/{name}/variables"] = [row[0] for row in plan["variables"] if row[1] == name]
        for key, value in group.items():
            if isinstance(value, dict) and "config" in value:  # a schedule, an optimizer
                config = {one: given for one, given in value["config"].items() if one != "name"}
                value = {"class_name": value["class_name"], "config": config}
            if is_json(value):
                found[f"groups/{name}/{key}"] = value
    return found


def _loss_of(loss: Loss) -> Json:
    """A Keras loss by its class and settings, whether it was given as such or by its name; else a name."""
    if isinstance(loss, (str, keras.losses.Loss)):
        loss = resolve_loss(loss)
        config = {**_config_of(loss), **loss_arguments(loss)}
        config = {name: value for name, value in config.items() if name != "name" and is_json(value)}
        return {"class_name": type(loss).__name__, "config": config}
    return getattr(loss, "__name__", None) or str(loss)


def compared(
    owner: object, before: Mapping[str, Json], now: Mapping[str, Json], restored: Mapping[str, Json]
) -> list[str]:
    """`told`, for an object that goes on from a checkpoint: it was made with what is its own from now on."""
    _made_with[owner] = {**now, **{name: before[name] for name in restored if name in before}}
    return describe_differences(before, now, restored)


def describe_differences(
    before: Mapping[str, Json], now: Mapping[str, Json], restored: Mapping[str, Json]
) -> list[str]:
    """Says which settings of an object differ from those of the one whose checkpoint is about to be restored.

    Args:
        before, now: theirs when they were made.
        restored: those that are part of the state, as the checkpoint has them.
    """
    found = []
    for name in sorted({*before, *now}):
        was, here = _nameless(before.get(name)), _nameless(now.get(name))
        if name in restored and here not in (was, restored[name]):
            found.append(f"{name} is {_short(restored[name])} as there, not {_short(here)}")
        elif name not in restored and here != was:
            found.append(f"{name} is {_short(here)} from now on, and was {_short(was)} there")
    return found


def restored_settings(
    state: Mapping[str, Json],
    values: Mapping[str, tf.Tensor],
    before: Mapping[str, Json],
    now: Mapping[str, Json],
) -> dict[str, Json]:
    """Those settings that a checkpoint restores: in `state`, what its metadata says, and of its values."""
    restored = {
        name: value
        for name, value in state.items()
        # A group's own rate is restored if it was a number, and is one.
        if not name.endswith("/learning_rate")
        or isinstance(value, float)
        and isinstance(now.get(name), float)
    }
    if "optimizer/dynamic_scale" in values:
        restored["initial_scale"] = before.get("initial_scale")
    if "optimizer/learning_rate" in values:
        restored["learning_rate"] = float(values["optimizer/learning_rate"])
    return restored


def differences_of(
    step: TrainStep, now: dict[str, Json], metadata: Metadata, values: Mapping[str, tf.Tensor]
) -> list[str]:
    """`compared`, for a step with these settings now and the one of which a checkpoint tells."""
    before = metadata.get("settings")
    if before is None:  # an earlier version wrote it
        return []
    if not any(name.startswith(_LAYERS) for name in before):  # an earlier version too
        now = {name: value for name, value in now.items() if not name.startswith(_LAYERS)}
    cut = values.get(RATE_CUTS, 0) if step.rate_cuts is None else 0
    lost = [f"learning rates are not cut any more, and were there {cut} times"] if cut else []
    return lost + compared(
        step, before, now, restored_settings(_of_state(metadata["choice"]), values, before, now)
    )


def warn_of(differences: Sequence[str], file: TensorFile) -> None:
    """Warns of settings that differ, if any do."""
    if differences and is_chief():
        more = [f"and {len(differences) - _TOLD} more"] if len(differences) > _TOLD else []
        told = "; ".join([*differences[:_TOLD], *more])
        warnings.warn(
            f"The checkpoint {file.path!r} was made with other settings: {told}. (To change what "
            "is as there, `Checkpoint(folder).restore(...)` it, set that, and go on with another folder.)",
            stacklevel=3,
        )


def _of_state(choice: TrainedVariables) -> dict[str, Json]:
    return {"variables": choice["variables"], **of_groups(choice["groups"])}


def of_groups(groups: Mapping[str, GroupSettings] | None) -> dict[str, Json]:
    """A name for each setting of a group that is part of the state."""
    return {
        f"groups/{name}/{key}": value
        for name, group in (groups or {}).items()
        for key, value in cast(dict[str, Json], group).items()
    }


def _nameless(value: Json) -> Json:
    """A setting without the names of objects in it, which Keras counts through the process."""
    if not isinstance(value, dict):
        return value
    config = value.get("config")
    if isinstance(config, dict):
        value = {**value, "config": {name: part for name, part in config.items() if name != "name"}}
    return {name: _nameless(part) for name, part in value.items()}


def _short(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict) and "class_name" in value:  # a schedule, a loss
        given = [f"{name}={_short(one)}" for name, one in value["config"].items() if one is not None]
        return f"{value['class_name']}({', '.join(given)})"
    return short_repr(value)
