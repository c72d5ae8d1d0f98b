"""Optimizers and updates of a dict that a checkpoint saves."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from ...optim import GroupedOptimizer
from ...optim.common.optimizers import inner_optimizer
from ...optim.common.types import Json
from ...optim.naming.stable_names import NotBuiltError
from ...optim.updates.slots import path_of
from ..step.named_model import Pairs
from ..step.named_state import optimizer_state
from ..support.keras_private import built_variables
from ..update.spikes import LAST_LOSSES, LastLosses
from .metadata import GroupSettings
from .saved_parts import Names, Part
from .settings import compared, made_with, of_groups, optimizer_settings, restored_settings
from .tensor_file import TensorFile
from .trained_variables import check_groups, groups_of, set_groups


class OptimizerPart(Part):
    """A Keras optimizer or a `GroupedOptimizer`: slots have the names of the variables that they are of."""

    kind, rank = "optimizer", 3

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        return self.value

    def pairs(self, names: Names) -> Pairs:
        if not self.optimizer.built:
            raise NotBuiltError(
                f"{self.where}an optimizer that knows no variables yet: call "
                "`optimizer.build(model.trainable_variables)` first."
            )
        return optimizer_state(self.optimizer, self.names(names))

    def names(self, names: Names) -> Names:
        """Those given, and names for variables that are in no object of the dict."""
        strange = [v for v in built_variables(inner_optimizer(self.optimizer)) if id(v) not in names]
        return {**names, **{id(v): n for v, n in zip(strange, recounted([path_of(v) for v in strange]))}}

    def made(self, names: Names) -> dict[str, Json]:
        kinds = {"optimizer": str(self._now()["optimizer"])}
        if self.optimizer is not inner_optimizer(self.optimizer):
            kinds["loss_scale"] = type(self.optimizer).__name__
        return dict(kinds)

    def settings(self) -> dict[str, Json]:
        return made_with(self.value, self._settings)  # whatever a loop changes

    def _settings(self) -> dict[str, Json]:
        return {name: value for name, value in self._now().items() if name != "optimizer"}

    def _now(self) -> dict[str, Json]:
        inner = inner_optimizer(self.optimizer)
        weights = built_variables(inner) if self.optimizer.built else []
        return optimizer_settings(
            self.optimizer, dict(zip(recounted([path_of(v) for v in weights]), weights))
        )

    def metadata(self, names: Names) -> Json:
        known = self.names(names)
        over = [known[id(variable)] for variable in built_variables(inner_optimizer(self.optimizer))]
        return {"groups": self._groups(), "over": over}

    def _groups(self) -> dict[str, GroupSettings] | None:
        inner = inner_optimizer(self.optimizer)
        return groups_of(inner.plan) if isinstance(inner, GroupedOptimizer) else None

    def check(self, metadata: Any, file: TensorFile) -> None:
        check_groups(f"{self.where}an optimizer that", self._groups(), metadata["groups"], file.path)

    def restore(self, metadata: Any) -> None:
        set_groups(inner_optimizer(self.optimizer), metadata["groups"] or {})

    def differences(
        self, metadata: Any, before: dict[str, Json], values: Mapping[str, tf.Tensor]
    ) -> list[str]:
        now, groups = self._settings(), of_groups(metadata["groups"])
        return compared(self.value, before, now, restored_settings(groups, values, before, now))


class UpdatePart(OptimizerPart):
    """An `Update`: its optimizer, what it accumulated, and the variables that it trains."""

    kind, rank = "Update", 2

    @property
    def optimizer(self) -> keras.optimizers.Optimizer:
        return self.value.optimizer

    def names(self, names: Names) -> Names:
        update = self.value
        given = update.names != [variable.path for variable in update.variables]  # as `{name: variable}`
        own = zip(update.variables, update.names if given else recounted(update.names))
        return {**super().names(names), **{id(v): n for v, n in own}, **names}

    def pairs(self, names: Names) -> Pairs:
        update, known = self.value, self.names(names)
        of = [known[id(variable)] for variable in update.variables]
        return [
            *((name, variable) for name, variable in zip(of, update.variables) if id(variable) not in names),
            *super().pairs(names),
            *((f"accumulated/{n}", v) for n, v in zip([*of, "calls", "total_weight"], update.accumulators)),
            *([(LAST_LOSSES, update.last_losses.losses)] if update.last_losses is not None else []),
        ]

    def made(self, names: Names) -> dict[str, Json]:
        known = self.names(names)
        trains = [known[id(variable)] for variable in self.value.variables]
        kinds = {**super().made(names), "accumulate": self.value.accumulate, "variables": list(trains)}
        spikes = LastLosses.settings(self.value.last_losses)
        return kinds if spikes is None else {**kinds, "on_spike": spikes}

    def _settings(self) -> dict[str, Json]:
        own = {"clip_norm": self.value.clip_norm, "on_nonfinite": self.value.on_nonfinite}
        return {**super()._settings(), **own}


def recounted(paths: Sequence[str]) -> list[str]:
    """Keras' paths, with what it counts through the whole process counted anew in their order.

    Example:
        >>> recounted(["dense_7/kernel", "dense_7/bias", "dense_8/kernel"])
        ['dense/kernel', 'dense/bias', 'dense_1/kernel']
    """
    names: dict[str, str] = {"": ""}
    taken: Counter[str] = Counter()
    for path in paths:
        above = ""
        for prefix in itertools.accumulate(path.split("/"), "{}/{}".format):
            if prefix not in names:
                plain = re.sub(r"_\d+$", "", prefix.rpartition("/")[2])
                stem = f"{names[above]}/{plain}" if above else plain
                names[prefix] = f"{stem}_{taken[stem]}" if taken[stem] else stem
                taken[stem] += 1
            above = prefix
    return [names[path] for path in paths]
