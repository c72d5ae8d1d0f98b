"""A plan as `.keras` files hold it: settings and names, without the variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras

from ..common.messages import first_few
from .group import Group, KernelDecay
from .plan import Plan

Config: TypeAlias = Mapping[str, Any]
# Name -> class or function, as `keras.saving` takes them.
CustomObjects: TypeAlias = Mapping[str, object] | None


@dataclass(frozen=True, eq=False)
class SavedPlan:
    """Settings of groups, and the names, shapes and Keras paths of their variables."""

    groups: Mapping[str, Group]  # by name
    # (stable name, group, shape, Keras path) of each, in `model.trainable_variables` order
    variables: Sequence[tuple[str, str, tuple[int, ...], str]]

    @classmethod
    def of(cls, plan: Plan) -> SavedPlan:
        group_of = plan.group_of
        rows = [(name, group_of[name], tuple(v.shape), v.path) for name, v in plan.variables.items()]
        return cls(plan.groups, rows)

    def bind(self, variables: Sequence[keras.Variable]) -> Plan:
        """The plan over these variables of the model that it was made for, loaded or built anew.

        They are matched by their Keras paths, or by their order if the paths have changed: Keras numbers
        layers without a name by what the process has built before. ValueError for others than the plan's.
        """
        by_path, paths = {v.path: v for v in variables}, [path for _, _, _, path in self.variables]
        ordered = list(variables)
        if set(paths) == set(by_path) and len(by_path) == len(paths) == len(ordered):
            ordered = [by_path[path] for path in paths]
        saved = [(name, shape) for name, _, shape, _ in self.variables]
        shapes = [tuple(variable.shape) for variable in ordered]
        if shapes != [shape for _, shape in saved]:
            raise ValueError(
                f"`variables` are not those of the optimizer's plan: {len(saved)} were saved, "
                f"{first_few([f'{name} {shape}' for name, shape in saved], 3)}, and it is built over "
                f"{len(ordered)}, {first_few([f'{v.path} {tuple(v.shape)}' for v in ordered], 3)}. Make a "
                "new plan with `optim.partition(model, ...)` and load the weights alone"
            )
        members: dict[str, dict[str, keras.Variable]] = {group: {} for group in self.groups}
        for (name, group, _, _), variable in zip(self.variables, ordered):
            members[group][name] = variable
        return Plan(self.groups, members, tuple(name for name, _ in saved))

    def to_dict(self) -> Config:
        """A dict that JSON can hold, for `get_config`."""
        groups = {name: _group_to_dict(group) for name, group in self.groups.items()}
        return {"groups": groups, "variables": [list(row) for row in self.variables]}

    @classmethod
    def from_dict(cls, config: Config, custom_objects: CustomObjects = None) -> SavedPlan:
        """The reverse of `to_dict`."""
        rows = [(name, group, tuple(shape), path) for name, group, shape, path in config["variables"]]
        groups = {
            name: _group_from_dict(settings, {row[0] for row in rows if row[1] == name}, custom_objects)
            for name, settings in config["groups"].items()
        }
        return cls(groups, rows)


def _group_to_dict(group: Group) -> Config:
    decay = group.weight_decay
    return {
        "lr_scale": group.lr_scale,
        "learning_rate": keras.saving.serialize_keras_object(group.learning_rate),
        "weight_decay": {"kernels": decay.value} if isinstance(decay, KernelDecay) else decay,
        "frozen": group.frozen,
        "optimizer": keras.saving.serialize_keras_object(group.optimizer),
    }


def _group_from_dict(settings: Config, names: set[str], custom_objects: CustomObjects) -> Group:
    decay = settings["weight_decay"]
    objects = {
        key: keras.saving.deserialize_keras_object(settings[key], custom_objects=custom_objects)
        for key in ("learning_rate", "optimizer")
    }
    return Group(
        lambda info: info.name in names,
        lr_scale=settings["lr_scale"],
        weight_decay=KernelDecay(decay["kernels"]) if isinstance(decay, Mapping) else decay,
        frozen=settings["frozen"],
        **objects,
    )
