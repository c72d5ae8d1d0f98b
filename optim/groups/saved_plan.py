"""A plan without its variables: what a file holds of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from ..common.messages import first_few
from .group import Group, KernelDecay
from .plan import Plan


@dataclass(frozen=True, eq=False)
class SavedPlan:
    """Settings of groups, and the names, shapes and Keras paths of their variables.

    Attributes:
        groups: the settings of each group, by name.
        variables: (stable name, group, shape, Keras path) of each, in `model.trainable_variables` order.
    """

    groups: Mapping[str, Group]
    variables: Sequence[tuple[str, str, tuple[int, ...], str]]

    @classmethod
    def of(cls, plan: Plan) -> SavedPlan:
        group_of = plan.group_of
        rows = [(name, group_of[name], tuple(v.shape), v.path) for name, v in plan.variables.items()]
        return cls(plan.groups, rows)

    def bind(self, variables: Sequence[keras.Variable]) -> Plan:
        """The plan over these variables of the model that it was made for, loaded or built anew.

        They are told by their Keras paths, and by their order where those have changed: Keras numbers layers
        without a name by what a process has built before.

        Raises:
            ValueError: other variables than the plan's.
        """
        paths = [variable.path for variable in variables]
        known = {path for _, _, _, path in self.variables}
        if len(known) == len(self.variables) and set(paths) == known and len(paths) == len(known):
            by_path = dict(zip(paths, variables))
            found = [by_path[path] for _, _, _, path in self.variables]
        else:
            found = list(variables)
        wanted = [(name, shape) for name, _, shape, _ in self.variables]
        shapes = [tuple(variable.shape) for variable in found]
        if shapes != [shape for _, shape in wanted]:
            raise ValueError(
                f"`variables` are not those of the optimizer's plan: {len(wanted)} were saved, "
                f"{first_few([f'{name} {shape}' for name, shape in wanted], 3)}, and it is built over "
                f"{len(found)}, {first_few([f'{v.path} {tuple(v.shape)}' for v in found], 3)}. Make a new "
                "plan with `optim.partition(model, ...)` and load the weights alone"
            )
        members: dict[str, dict[str, keras.Variable]] = {group: {} for group in self.groups}
        for (name, group, _, _), variable in zip(self.variables, found):
            members[group][name] = variable
        return Plan(self.groups, members, tuple(name for name, _ in wanted))

    def to_dict(self) -> dict[str, Any]:
        """JSON-like, for `get_config`."""
        groups = {name: _group_to_dict(group) for name, group in self.groups.items()}
        return {"groups": groups, "variables": [list(row) for row in self.variables]}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], custom_objects: Any = None) -> SavedPlan:
        """The reverse of `to_dict`."""
        rows = [(name, group, tuple(shape), path) for name, group, shape, path in config["variables"]]
        groups = {
            name: _group_from_dict(settings, {row[0] for row in rows if row[1] == name}, custom_objects)
            for name, settings in config["groups"].items()
        }
        return cls(groups, rows)


def _group_to_dict(group: Group) -> dict[str, Any]:
    decay = group.weight_decay
    return {
        "lr_scale": group.lr_scale,
        "learning_rate": keras.saving.serialize_keras_object(group.learning_rate),
        "weight_decay": {"kernels": decay.value} if isinstance(decay, KernelDecay) else decay,
        "frozen": group.frozen,
        "optimizer": keras.saving.serialize_keras_object(group.optimizer),
    }


def _group_from_dict(settings: Mapping[str, Any], names: set[str], custom_objects: Any) -> Group:
    decay = settings["weight_decay"]
    made = {
        key: keras.saving.deserialize_keras_object(settings[key], custom_objects=custom_objects)
        for key in ("learning_rate", "optimizer")
    }
    return Group(
        lambda info: info.name in names,
        lr_scale=settings["lr_scale"],
        weight_decay=KernelDecay(decay["kernels"]) if isinstance(decay, Mapping) else decay,
        frozen=settings["frozen"],
        **made,
    )
