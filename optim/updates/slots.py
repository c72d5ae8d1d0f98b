"""Which variable an optimizer's state belongs to."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf


class Slot(NamedTuple):
    """A state variable's place: `owner` is the index of the variable that it belongs to, `name` its kind."""

    owner: int
    name: str


def slots_of(state: Sequence[keras.Variable], trained: Sequence[keras.Variable]) -> dict[int, Slot]:
    """The slots among the state of an optimizer that was built over `trained`, by `id`; counters have none.

    Keras keeps no other trace of it than names: the momentum of `head/kernel` is `head_kernel_momentum`.
    Variables of one path have slots of one name, in the variables' order. (Several unnamed slots for each of
    them are dealt out in turn, which is right only if the optimizer makes one kind after the other.)
    """
    owners: dict[str, list[int]] = {}
    for index, variable in enumerate(trained):
        owners.setdefault(path_of(variable).replace("/", "_") + "_", []).append(index)
    found: dict[int, Slot] = {}
    seen: dict[str, int] = {}
    for variable in state:
        prefix = _longest(variable.name, owners)
        if prefix is not None:
            index = seen.get(variable.name, 0)
            seen[variable.name] = index + 1
            owner = owners[prefix][index % len(owners[prefix])]
            found[id(variable)] = Slot(owner, variable.name.removeprefix(prefix))
    return found


def path_of(variable: keras.Variable | tf.Variable) -> str:
    """A variable's path; of a `tf.Variable`, which has none, the name by which Keras calls its slots."""
    return str(getattr(variable, "path", None) or variable.name.replace(":", "_"))


def _longest(name: str, prefixes: Container[str]) -> str | None:
    """The longest of the prefixes, which end with an underscore, by which a name begins."""
    end = name.rfind("_")
    while end >= 0:
        if name[: end + 1] in prefixes:
            return name[: end + 1]
        end = name.rfind("_", 0, end)
    return None
