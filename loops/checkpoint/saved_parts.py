"""What a dict that a checkpoint saves may hold, and what is saved of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import keras
import tensorflow as tf

from ...optim.common.messages import short_repr
from ...optim.common.types import Json
from ...optim.naming.stable_names import NotBuiltError
from ...optim.private.keras_private import weights_were_set
from ..step.named_model import NamedModel, Pairs, Variable
from ..support.keras_private import has_late_variables
from ..update.spikes import LastLosses
from .saved_step import SavedStep
from .settings import describe_differences, differences_of, model_settings, settings_of
from .tensor_file import OWN, TensorFile

# The names of variables in the checkpoint, by `id`.
Names: TypeAlias = Mapping[int, str]


def check_keys(objects: dict[str, Any]) -> None:
    """Raises ValueError or TypeError unless the keys of a dict may begin the names of variables."""
    if not objects:
        raise ValueError("`step` is an empty dict: name what is to be saved.")
    for key in objects:
        if not isinstance(key, str):
            raise TypeError(
                f"`step` has the key {key!r}, which is no text: keys are names in the checkpoint."
            )
        if not key or "/" in key or f"{key}/" == OWN:
            raise ValueError(
                f"`step` has the key {key!r}: give it a name that is not empty, has no slash, which divides "
                "the names of variables, and is not 'gradloop', which is taken."
            )


class Part:
    """One object of the dict: this class for what has variables and no more, the others for the rest.

    Attributes:
        kind: how metadata and messages call it.
        rank: those of a lower one name their variables first.
        value: the object.
        where: how a message about it begins.
    """

    kind: ClassVar[str] = "object with a `state`"
    rank: ClassVar[int] = 1

    def __init__(self, key: str, value: Any) -> None:
        self.value = value
        self.where = f"`step` has under {key!r} "

    def pairs(self, names: Names) -> Pairs:
        """The variables by names that are the same in every process, given those of the objects before.

        Raises:
            NotBuiltError: they are not made yet.
        """
        state = self.value.state()
        if not are_variables(state):
            raise TypeError(
                f"{self.where}a {type(self.value).__name__} whose `state()` returns {short_repr(state)}: "
                "return a dict of variables by name; or what JSON holds, beside a method `set_state(state)` "
                "that takes it."
            )
        return list(state.items())

    def some_variables(self) -> list[Variable]:
        """Variables that tell which strategy it belongs to."""
        return [variable for _, variable in self.pairs({})]

    def made(self, names: Names) -> dict[str, Json]:
        """What must be the same in the object that is restored."""
        return {}

    def settings(self) -> dict[str, Json]:
        """What may differ there, with a warning."""
        return {}

    def metadata(self, names: Names) -> Json:
        """What is restored besides variables."""
        return None

    def check(self, metadata: Any, file: TensorFile) -> None:
        """Raises ValueError unless it can take metadata and the values of a file, by the names of `pairs`."""

    def differences(
        self, metadata: Any, before: dict[str, Json], values: Mapping[str, tf.Tensor]
    ) -> list[str]:
        """Says which settings differ from those of a checkpoint."""
        return describe_differences(before, self.settings(), {})

    def restore(self, metadata: Any) -> None:
        """Restores the metadata, before the variables get their values."""

    def after_restore(self) -> None:
        """Is called when the variables have their values."""


def are_variables(state: object) -> bool:
    """Whether it is a dict of variables by name, and of one at least."""
    kinds = (keras.Variable, tf.Variable)
    return (
        isinstance(state, dict)
        and bool(state)
        and all(isinstance(name, str) and isinstance(variable, kinds) for name, variable in state.items())
    )


class StepPart(Part):
    """A `TrainStep`: as it is saved alone."""

    kind, rank = "TrainStep", 0

    def __init__(self, key: str, value: Any) -> None:
        super().__init__(key, value)
        self._saved = SavedStep(value)

    def some_variables(self) -> list[Variable]:
        return [self.value.batches_done]  # its state would build the optimizer

    def made(self, names: Names) -> dict[str, Json]:
        spikes = LastLosses.settings(self.value.last_losses)
        kinds: dict[str, Json] = {} if spikes is None else {"on_spike": spikes}
        return kinds if self.value.rate_cuts is None else {**kinds, "on_nonfinite": "restore"}

    def metadata(self, names: Names) -> Json:
        return dict(self._saved.metadata())

    def check(self, metadata: Any, file: TensorFile) -> None:
        self._saved.check(file.part(metadata, file.values))

    def differences(
        self, metadata: Any, before: dict[str, Json], values: Mapping[str, tf.Tensor]
    ) -> list[str]:
        return differences_of(self.value, settings_of(self.value), metadata, values)

    def restore(self, metadata: Any) -> None:
        self._saved.restore_metadata(metadata)

    def after_restore(self) -> None:
        weights_were_set(node.layer for node in self.value.named.tree.nodes)


class LayerPart(Part):
    """A Keras model or layer: weights, seed generators, states of RNNs, metrics that its layers hold."""

    kind = "Keras model or layer"

    def __init__(self, key: str, value: Any) -> None:
        super().__init__(key, value)
        self._named = NamedModel(value)

    def pairs(self, names: Names) -> Pairs:
        try:
            return self._named.state()
        except NotBuiltError as error:
            raise NotBuiltError(f"{self.where}a model or layer without its variables: {error}") from None

    def some_variables(self) -> list[Variable]:
        return list(self.value.variables)  # without a walk through the model for their names

    def settings(self) -> dict[str, Json]:
        return model_settings(self._named.tree)

    def after_restore(self) -> None:
        weights_were_set([self.value, *(node.layer for node in self._named.tree.nodes)])


class MetricPart(Part):
    """A Keras metric."""

    kind = "Keras metric"

    def pairs(self, names: Names) -> Pairs:
        if has_late_variables(self.value):
            raise NotBuiltError(
                f"{self.where}the metric {self.value.name!r}, which makes its variables at its first update: "
                "call `update_state` once and `reset_state` before, as with `tf.zeros((1, classes))`."
            )
        return [(variable.name, variable) for variable in self.value.variables]

    def made(self, names: Names) -> dict[str, Json]:
        return {"class": type(self.value).__name__}


class VariablePart(Part):
    """A variable, or a generator of random numbers, which is one."""

    kind = "variable"

    def pairs(self, names: Names) -> Pairs:
        own = self.value.value if isinstance(self.value, keras.Variable) else self.value
        kind = own.synchronization, own.aggregation
        if kind == (tf.VariableSynchronization.ON_READ, tf.VariableAggregation.NONE):
            raise ValueError(
                f"{self.where}a variable of which each replica has a value of its own, so it has none to "
                "save: make it with an `aggregation`."
            )
        return [("", self.value)]


class SeedsPart(VariablePart):
    kind = "keras.random.SeedGenerator"

    def pairs(self, names: Names) -> Pairs:
        return [("", self.value.state)]


class GeneratorPart(SeedsPart):
    kind = "tf.random.Generator"

    def made(self, names: Names) -> dict[str, Json]:
        return {"algorithm": int(self.value.algorithm)}
