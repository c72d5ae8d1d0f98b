"""A plan as `.keras` files hold it: settings and names, without the variables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras

from ..common.messages import first_few
from .group import Group, KernelDecay
from .plan import Plan

Config: TypeAlias = Mapping[str, Any]
# Name -> class or function, as `keras.saving` takes them.
CustomObjects: TypeAlias = Mapping[str, object] | None
# (stable name, group, shape, Keras path) of a variable.
Row: TypeAlias = tuple[str, str, tuple[int, ...], str]


@dataclass(frozen=True, eq=False)
class SavedPlan:
    """Settings of groups, and the names, shapes and Keras paths of their variables."""

    groups: Mapping[str, Group]  # by name
    variables: Sequence[Row]  # in `model.trainable_variables` order
    untrained: Sequence[str] = ()  # names of those that a layer's `trainable = False` kept from training
    batch_norms: Sequence[tuple[str, Sequence[str]]] = ()  # as a `Plan` has them

    @classmethod
    def of(cls, plan: Plan, rest: SavedPlan | None = None) -> SavedPlan:
        """Of a plan; `rest` is what it was bound from, which may name variables that it has not met yet."""
        group_of, variables = plan.group_of, plan.variables
        rows = {name: (name, group_of[name], tuple(v.shape), v.path) for name, v in variables.items()}
        untrained = {name for name, variable in variables.items() if not variable.trainable}
        if rest is not None:
            rows = {row[0]: rows.get(row[0], row) for row in rest.variables}
            untrained |= set(rest.untrained) - set(variables)
        norms = plan.batch_norms if rest is None else rest.batch_norms
        return cls(plan.groups, list(rows.values()), [name for name in rows if name in untrained], norms)

    def names_fit(self, names: Collection[str]) -> bool:
        """Whether these are a model's that has all variables of the plan."""
        return all(row[0] in names for row in self.variables)

    def bind(
        self, variables: Sequence[keras.Variable], names: Mapping[str, keras.Variable] | None = None
    ) -> Plan:
        """The plan over these variables of the model that it was made for, loaded or built anew.

        They are matched by their stable names, which `names` maps to the model's variables. Where there are
        none, or others than the plan's, by their Keras paths. Keras numbers layers without a name by what the
        process has built before, so where the paths are others too, by their order, if that leaves no choice.
        Those that did not train when it was saved may be missing, as Keras builds an optimizer over what
        trains; variables that are not the plan's are passed over. ValueError if others are missing, or if two
        that are alike could be exchanged.
        """
        rows, untrained = self.variables, set(self.untrained)
        awaited = [row for row in rows if row[0] not in untrained]
        given = {id(variable) for variable in variables}
        found = {
            name: names[name] for name, *_ in rows if names and name in names and id(names[name]) in given
        }
        if not found or not all(row[0] in found for row in awaited):
            found = _by_path(rows, variables)
        enough = all(row[0] in found for row in awaited)
        if len(found) < len(rows) and not (enough and len(found) == len(variables)):
            fits = next((each for each in (rows, awaited) if len(each) == len(variables)), None)
            if fits is not None:
                _check_distinct(fits)
                found = {row[0]: variable for row, variable in zip(fits, variables)}
            elif not enough:
                found = {}
        shapes = {name: shape for name, _, shape, _ in rows}
        if not found or any(tuple(variable.shape) != shapes[name] for name, variable in found.items()):
            saved = [f"{name} {shape}" for name, _, shape, _ in awaited or rows]
            raise ValueError(
                f"`variables` are not those of the optimizer's plan: {len(saved)} were saved, "
                f"{first_few(saved, 3)}, and it is built over {len(variables)}, "
                f"{first_few([f'{v.path} {tuple(v.shape)}' for v in variables], 3)}. Make a new plan with "
                "`optim.partition(model, ...)` and load the weights alone"
            )
        members: dict[str, dict[str, keras.Variable]] = {group: {} for group in self.groups}
        for name, group, _, _ in rows:
            if name in found:
                members[group][name] = found[name]
        norms = [(layer, [name for name in names if name in found]) for layer, names in self.batch_norms]
        order = tuple(name for name in shapes if name in found)
        return Plan(self.groups, members, order, [(layer, names) for layer, names in norms if names])

    def to_dict(self) -> Config:
        """A dict that JSON can hold, for `get_config`."""
        groups = {name: _group_to_dict(group) for name, group in self.groups.items()}
        rows, norms = [[*row] for row in self.variables], [[*row] for row in self.batch_norms]
        return {"groups": groups, "variables": rows, "untrained": [*self.untrained], "batch_norms": norms}

    @classmethod
    def from_dict(cls, config: Config, custom_objects: CustomObjects = None) -> SavedPlan:
        """The reverse of `to_dict`."""
        rows = [(name, group, tuple(shape), path) for name, group, shape, path in config["variables"]]
        groups = {
            name: _group_from_dict(settings, {row[0] for row in rows if row[1] == name}, custom_objects)
            for name, settings in config["groups"].items()
        }
        return cls(groups, rows, config.get("untrained", ()), config.get("batch_norms", ()))


def _by_path(rows: Sequence[Row], variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """The variables that paths tell, by stable name. A model in a file may have lost its own name in them."""
    found: dict[str, list[keras.Variable]] = {}
    for variable in variables:
        path = f"/{variable.path}"
        for name, _, _, saved in rows:
            if path.endswith(f"/{saved}") or f"/{saved}".endswith(path):
                found.setdefault(name, []).append(variable)
    times = Counter(id(variable) for matches in found.values() for variable in matches)
    return {name: one[0] for name, one in found.items() if len(one) == 1 and times[id(one[0])] == 1}


def _check_distinct(rows: Sequence[Row]) -> None:
    """Raises ValueError if variables that are matched by their order have the same last name and shape."""
    alike: dict[tuple[str, tuple[int, ...]], str] = {}
    for name, _, shape, path in rows:
        other = alike.setdefault((path.rpartition("/")[2], shape), name)
        if other != name:
            raise ValueError(
                f"`variables` do not tell {other!r} from {name!r} of the optimizer's plan, both of shape "
                f"{shape}, and their layers have other names now. Pass the model, whose attributes may tell "
                "(`optimizer.build(model)`), or make a new plan with `optim.partition(model, ...)` and load "
                "the weights alone"
            )


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
