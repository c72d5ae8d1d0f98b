"""Which settings of a call and of the checkpoint that it resumes differ, and which of the two win.

What changes while a run goes on (the learning rate, what trains, the settings of groups that may be set) is
part of the state, so the checkpoint's win. All else is the call's. Either way the difference is told.
"""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import keras

from ...optim import named_variables
from ...optim.common.messages import short_repr
from ...optim.common.types import Json
from ...optim.naming.stable_names import tree_of
from ...optim.private.keras_private import uses_weight_decay
from ..distribute.cluster import is_chief
from ..loss.keras_loss import resolve_loss
from ..loss.loss_and_metrics import Loss
from ..step.train_step import TrainStep
from ..support.keras_private import arguments_of
from .layer_settings import is_json, layer_settings
from .notes import Note
from .tensor_file import TensorFile
from .trained_variables import trained_variables_of

_LAYERS = "layers/"  # begins the names of settings of layers
_TOLD = 12  # differences, more than which are counted

# What each step was made with: what a run changes later, such as the learning rate, no user has changed.
_made_with: WeakKeyDictionary[TrainStep, dict[str, Json]] = WeakKeyDictionary()


def made_with(step: TrainStep) -> dict[str, Json]:
    """The settings that a step had when this, or `tell_differences`, was first called for it."""
    return _made_with.setdefault(step, settings_of(step))


def settings_of(step: TrainStep) -> dict[str, Json]:
    """The settings that a step has now: name -> what JSON holds."""
    inner, outer = step.inner_optimizer, step.optimizer
    config = _config_of(inner)
    kind = type(inner).__name__
    exempt, groups = config.get("exempt", []), {}
    if "plan" in config:  # of a `GroupedOptimizer`
        groups = _of_plan(config["plan"])
        kind, config = config["optimizer"]["class_name"], config["optimizer"]["config"]
    elif config.get("weight_decay"):
        named = named_variables(step.model).items()
        exempt = [name for name, v in named if v.trainable and not uses_weight_decay(inner, v)]
    config = {name: value for name, value in config.items() if name != "name"}
    own = {
        "exclude_from_weight_decay": exempt,
        "loss": _loss_of(step.loss),
        "clip_norm": step.clip_norm,
        "on_nonfinite": step.on_nonfinite,
        "carry": step.carry,
        "frozen_layers": [node.path for node in tree_of(step.model).nodes if not node.layer.trainable],
    }
    if outer is not inner:
        own |= {name: getattr(outer, name) for name in ("initial_scale", "dynamic_growth_steps")}
    settings = {name: value for name, value in {**config, **own}.items() if is_json(value)}
    layers = {_LAYERS + name: value for name, value in layer_settings(step.model).items()}
    return {"optimizer": kind, **settings, **_of_state(trained_variables_of(step)), **groups, **layers}


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
        config = {**_config_of(loss), **arguments_of(loss)}
        config = {name: value for name, value in config.items() if name != "name" and is_json(value)}
        return {"class_name": type(loss).__name__, "config": config}
    return getattr(loss, "__name__", None) or str(loss)


def tell_differences(step: TrainStep, file: TensorFile) -> None:
    """Warns of settings that differ from those of the run whose checkpoint is about to be restored."""
    note: Note = file.note
    before, now = note.get("settings"), settings_of(step)
    if before is None:  # written by an earlier version
        return
    if not any(name.startswith(_LAYERS) for name in before):  # an earlier version too
        now = {name: value for name, value in now.items() if not name.startswith(_LAYERS)}
    restored: dict[str, Any] = {
        name: value
        for name, value in _of_state(note["choice"]).items()
        # A group's own rate is restored if it was a number, and is one.
        if not name.endswith("/learning_rate")
        or isinstance(value, float)
        and isinstance(now.get(name), float)
    }
    if "optimizer/dynamic_scale" in file.values:
        restored["initial_scale"] = before.get("initial_scale")
    if "optimizer/learning_rate" in file.values:
        restored["learning_rate"] = float(file.values["optimizer/learning_rate"])
    told = []
    for name in sorted({*before, *now}):
        was, here = before.get(name), now.get(name)
        if name in restored and here not in (was, restored[name]):
            told.append(f"{name} is {_short(restored[name])} as there, not {_short(here)}")
        elif name not in restored and here != was:
            told.append(f"{name} is {_short(here)} from now on, and was {_short(was)} there")
    kept = {name: before[name] for name in restored if name in before}
    _made_with[step] = now | kept
    if told and is_chief():
        more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
        warnings.warn(
            f"The checkpoint {file.path!r} was made with other settings: "
            f"{'; '.join(told[:_TOLD] + more)}. (To change what "
            "is as there, `Checkpoint(folder).restore(step)` it, set that, and `train` with another folder.)",
            stacklevel=2,
        )


def _of_state(choice: Any) -> dict[str, Json]:
    """What was chosen to train, with a name for each setting of a group."""
    groups = choice["groups"] or {}
    found = {"variables": choice["variables"]}
    for name, group in groups.items():
        found |= {f"groups/{name}/{key}": value for key, value in group.items()}
    return found


def _short(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict) and "class_name" in value:  # a schedule, a loss
        given = [f"{name}={_short(one)}" for name, one in value["config"].items() if one is not None]
        return f"{value['class_name']}({', '.join(given)})"
    return short_repr(value)
