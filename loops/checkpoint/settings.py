"""Which settings of a call and of the checkpoint that it resumes differ, and which of the two win.

What changes while a run goes on (the learning rate, what trains, the settings of groups that may be set) is
part of the state, so the checkpoint's win. All else is the call's. Either way the difference is told.
"""

from __future__ import annotations

import json
import warnings
from typing import Any
from weakref import WeakKeyDictionary

from ...optim.common.messages import short_repr
from ...optim.common.types import Json
from ..distribute.cluster import is_chief
from ..step.train_step import TrainStep
from .notes import Note
from .tensor_file import TensorFile
from .trained_variables import trained_variables_of

# What each step was made with: what a run changes later, such as the learning rate, no user has changed.
_made_with: WeakKeyDictionary[TrainStep, dict[str, Json]] = WeakKeyDictionary()


def made_with(step: TrainStep) -> dict[str, Json]:
    """The settings that a step had when this, or `tell_differences`, was first called for it."""
    return _made_with.setdefault(step, settings_of(step))


def settings_of(step: TrainStep) -> dict[str, Json]:
    """The settings that a step has now: name -> what JSON holds."""
    inner = step.inner_optimizer
    try:
        config = inner.get_config()
    except NotImplementedError:  # an optimizer of the user's own
        config = {}
    kind = type(inner).__name__
    if "plan" in config:  # of a `GroupedOptimizer`, whose groups follow
        kind, config = config["optimizer"]["class_name"], config["optimizer"]["config"]
    config = {name: value for name, value in config.items() if name != "name" and _is_json(value)}
    loss = getattr(step.loss, "name", None) or getattr(step.loss, "__name__", None) or str(step.loss)
    own = {"loss": loss, "clip_norm": step.clip_norm, "on_nonfinite": step.on_nonfinite}
    return {"optimizer": kind, **config, **own, **_of_state(trained_variables_of(step))}


def tell_differences(step: TrainStep, file: TensorFile) -> None:
    """Warns of settings that differ from those of the run whose checkpoint is about to be restored."""
    note: Note = file.note
    before, now = note.get("settings"), settings_of(step)
    if before is None:  # written by an earlier version
        return
    restored: dict[str, Any] = _of_state(note["choice"])
    if "optimizer/learning_rate" in file.values:
        restored["learning_rate"] = float(file.values["optimizer/learning_rate"])
    told = []
    for name in sorted({*before, *now}):
        was, here = before.get(name), now.get(name)
        if name in restored and here not in (was, restored[name]):
            told.append(f"{name} is {_short(restored[name])} as there, not {_short(here)}")
        elif name not in restored and here != was and not name.startswith("groups/"):
            told.append(f"{name} is {_short(here)} from now on, and was {_short(was)} there")
    kept = {name: before[name] for name in restored if name in before}
    _made_with[step] = now | kept
    if told and is_chief():
        warnings.warn(
            f"The checkpoint {file.path!r} was made with other settings: {'; '.join(told)}. (To change what "
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


def _is_json(value: object) -> bool:
    try:
        return json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False


def _short(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict) and "class_name" in value:  # a schedule
        given = [f"{name}={_short(one)}" for name, one in value["config"].items() if one is not None]
        return f"{value['class_name']}({', '.join(given)})"
    return short_repr(value)
