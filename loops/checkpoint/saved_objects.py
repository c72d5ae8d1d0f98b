"""What a checkpoint saves of a loop without a `TrainStep`: a dict of its objects."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from ...optim.common.messages import first_few, short_repr
from ...optim.common.types import Json
from ...optim.gradients.totals import assign_values
from ...optim.naming.stable_names import NotBuiltError
from ..distribute.same_order import Mean
from ..distribute.scope import scope_of, strategies_of
from ..distribute.sharding import mean_over_workers_of
from ..step.named_model import Variable
from ..step.named_state import unique
from ..step.train_step import TrainStep
from .choose_part import part_for
from .metadata import Metadata, ObjectMetadata
from .saved_optimizers import OptimizerPart
from .saved_parts import StepPart, check_keys
from .saved_step import SavedStep, values_of
from .saved_values import ValuePart
from .settings import warn_of
from .tensor_file import OWN, TensorFile, in_memory

_WAY_OUT = "make it as it was, or name another folder"


class _Named(NamedTuple):
    """The variables of a dict: each once, under the name that the first object to have it gives."""

    state: dict[str, Variable]
    local: dict[str, dict[str, str]]  # key -> its own names -> names in `state`
    by_id: dict[int, str]


class SavedObjects:
    """A dict of objects as a checkpoint saves it. The order of the dict does not matter.

    A variable of `objects["gan"]` has the name `gan/...`, one that is itself in the dict its key.
    """

    def __init__(self, objects: dict[str, Any]) -> None:
        check_keys(objects)
        self._objects = objects
        self._parts = {key: part_for(key, objects[key]) for key in sorted(objects)}
        for part in self._parts.values():
            if isinstance(part, OptimizerPart):
                part.settings()  # which stay what they are now

    def capture(self) -> tuple[Metadata, dict[str, tf.Tensor]]:
        named = self._named()
        arrays = {f"{_ARRAYS}{key}": part.array for key, part in self._plain().items()}
        with scope_of(self._strategy):
            values = values_of(named.state)
        values |= in_memory({name: array for name, array in arrays.items() if array is not None})
        metadata: Metadata = {
            "objects": {
                key: {
                    "kind": part.kind,
                    "made": part.made(named.by_id),
                    "settings": part.settings(),
                    "note": part.metadata(named.by_id),
                }
                for key, part in self._parts.items()
            }
        }
        return metadata, values

    def check(self, file: TensorFile) -> None:
        there = self._objects_in(file)
        for key, part in self._parts.items():
            if part.kind != there[key]["kind"]:
                raise ValueError(
                    f"{part.where}{_a(part.kind)}, and the checkpoint {file.path!r} "
                    f"{_a(there[key]['kind'])}: {_WAY_OUT}."
                )
        waiting = {
            key: part
            for key, part in self._parts.items()
            if isinstance(part, OptimizerPart) and not part.optimizer.built
        }
        self._check(file, there, but=waiting)
        if waiting:
            self._build(waiting, there)
            self._check(file, there)

    def warn_of_differences(self, file: TensorFile) -> None:
        there, named = self._objects_in(file), self._named()
        told = []
        for key, part in self._parts.items():
            values = self._view(key, named, file.values)
            found = part.differences(there[key]["note"], there[key]["settings"], values)
            told += [f"{key}/{text}" for text in found]
        warn_of(told, file)

    def restore(self, metadata: Metadata, values: Mapping[str, tf.Tensor]) -> None:
        for key, part in self._parts.items():
            part.restore(metadata["objects"][key]["note"])
        with scope_of(self._strategy):
            assign_values((variable, values[name]) for name, variable in self._named().state.items())
            for part in self._parts.values():
                part.after_restore()
        for key, part in self._plain().items():
            self._objects[key] = part.restored(metadata["objects"][key]["note"], values.get(_ARRAYS + key))

    @functools.cached_property
    def mean_over_workers(self) -> Mean:
        return mean_over_workers_of(self._strategy)

    @functools.cached_property
    def _strategy(self) -> tf.distribute.Strategy | None:
        variables: list[Variable] = []
        for part in self._parts.values():
            with contextlib.suppress(NotBuiltError):
                variables += part.some_variables()
        found = strategies_of(variables)
        if len(found) > 1:
            raise ValueError(
                "`step` holds objects made in the scopes of different strategies: save those of each by "
                "themselves, in a folder of their own."
            )
        return found[0] if found else None

    def _named(self, but: Collection[str] = ()) -> _Named:
        named = _Named({}, {}, {})
        for key, part in sorted(self._parts.items(), key=lambda item: item[1].rank):
            local = named.local[key] = {}
            for name, variable in unique(() if key in but else part.pairs(named.by_id)).items():
                full = named.by_id.setdefault(id(variable), f"{key}/{name}" if name else key)
                named.state.setdefault(full, variable)
                local[name] = full
        return named

    def _plain(self) -> dict[str, ValuePart]:
        return {key: part for key, part in self._parts.items() if isinstance(part, ValuePart)}

    def _view(self, key: str, named: _Named, values: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The values of one object, by its own names."""
        own = {n.removeprefix(f"{key}/"): v for n, v in values.items() if n.startswith(f"{key}/")}
        return own | {name: values[full] for name, full in named.local[key].items() if full in values}

    def _objects_in(self, file: TensorFile) -> dict[str, ObjectMetadata]:
        """The metadata of a file by key; ValueError unless they are of the same keys."""
        there = file.metadata.get("objects")
        if there is None:
            raise ValueError(
                f"`step` is a dict of {first_few(list(self._parts))}, and the checkpoint {file.path!r} is of "
                "a `TrainStep`: restore it with a step made as that one, or name another folder."
            )
        if there.keys() != self._parts.keys():
            here = [key for key in self._parts if key not in there]
            lacks = [key for key in there if key not in self._parts]
            faults = [f"it has no {first_few(here)}"] * bool(here)
            faults += [f"it has {first_few(lacks)}, which the dict has not"] * bool(lacks)
            raise ValueError(
                f"`step` is a dict of other names than the checkpoint {file.path!r} was made with: "
                f"{'; '.join(faults)}. Name what it had, or another folder."
            )
        return there

    def _check(
        self, file: TensorFile, there: Mapping[str, ObjectMetadata], but: Collection[str] = ()
    ) -> None:
        named = self._named(but)
        steps = [key for key, part in self._parts.items() if isinstance(part, StepPart)]
        for key, part in self._parts.items():
            made, saved = part.made(named.by_id), there[key]["made"]
            for name in {**made, **saved}:
                here, before = made.get(name), saved.get(name)
                if here != before:
                    raise ValueError(
                        f"{part.where}{_a(part.kind)} with {name} {_short(here, before)}, and the checkpoint "
                        f"{file.path!r} was made with {_short(before, here)}: {_WAY_OUT}."
                    )
            view = file.part({}, self._view(key, named, file.values))
            if key not in but:
                part.check(there[key]["note"], view)
        own = tuple(f"{key}/" for key in steps)  # which has been checked as a step alone
        state = {name: variable for name, variable in named.state.items() if not name.startswith(own)}
        file.check(state, but=[*own, *(f"{key}/" for key in but)])

    def _build(self, waiting: Mapping[str, OptimizerPart], there: Mapping[str, ObjectMetadata]) -> None:
        """Builds optimizers over the variables that those of a checkpoint were built over."""
        named = self._named(waiting)
        for key, part in waiting.items():
            over = there[key]["note"]["over"]
            if any(name not in named.state for name in over):
                part.pairs({})  # which says what to do
            with scope_of(self._strategy):
                part.optimizer.build([named.state[name] for name in over])


def saved_of(step: TrainStep | dict[str, Any]) -> SavedStep | SavedObjects:
    """What a checkpoint saves of the argument `step`; TypeError if it is neither a step nor a dict.

    ValueError in a TensorFlow function, in which variables have no values.
    """
    if not tf.executing_eagerly():
        raise ValueError(
            "`step` is saved or restored within a `tf.function`, in which it has no values yet: do it "
            "between two calls of the function."
        )
    if isinstance(step, TrainStep):
        return SavedStep(step)
    if isinstance(step, dict):
        return SavedObjects(step)
    raise TypeError(f"`step` must be a `loops.TrainStep`, or a dict of what to save, not {step!r}.")


_ARRAYS = f"{OWN}objects/"


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'oU' else 'a'} {kind}"


def _short(value: Json, other: Json) -> str:
    """A setting in a message; of a list, what is not in the other one."""
    if isinstance(value, list) and isinstance(other, list):
        return first_few([str(item) for item in value if item not in other] or [str(v) for v in value])
    return short_repr(value)
