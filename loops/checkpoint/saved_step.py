"""What a checkpoint saves: what all have in common, and a `TrainStep`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import keras
import tensorflow as tf

from ...optim.common.messages import first_few
from ...optim.common.types import Json
from ...optim.gradients.totals import assign_values
from ...optim.naming.model_tree import ModelTree
from ...optim.private.keras_private import weights_were_set
from ..distribute.same_order import Mean
from ..distribute.scope import scope_of
from ..step.named_model import Variable
from ..step.train_step import TrainStep
from ..support.global_seed_generator import restore_global_seeds
from ..support.keras_private import global_seed_generator
from .metadata import Metadata
from .settings import differences_of, made_with, settings_of, warn_of
from .tensor_file import OWN, TensorFile, in_memory
from .trained_variables import check_trained_variables, train_as_saved, trained_variables_of

# What `keras.random` without a seed draws from, if anything has: it is the process' own, and no object's.
_KERAS_RANDOM = f"{OWN}keras_random"


class Saved(Protocol):
    """Anything that a checkpoint can hold: values by name, and metadata."""

    @property
    def mean_over_workers(self) -> Mean:
        """As that of a step: a mean over the workers that save together, None for one process."""

    def capture(self) -> tuple[Metadata, dict[str, tf.Tensor]]:
        """The metadata, and the values as they are now (see `in_memory`).

        All workers must call this, since some values can be read by all of them together only.
        """

    def check(self, file: TensorFile) -> None:
        """Raises ValueError unless `restore` can take the content of a file; changes nothing."""

    def warn_of_differences(self, file: TensorFile) -> None:
        """Warns of settings that differ from those in a file that is about to be restored."""

    def restore(self, metadata: Metadata, values: Mapping[str, tf.Tensor]) -> None:
        """Restores what `capture` returned, here or in another process."""


class SavedStep:
    """A `TrainStep` as a checkpoint saves it: `state()`, what trains, and what it was made with."""

    def __init__(self, step: TrainStep) -> None:
        self._step = step
        self.mean_over_workers: Mean = step.mean_over_workers
        self._settings: dict[str, Json] | None = None
        self._made_with()  # which stays what it is now, whatever a run changes

    def capture(self) -> tuple[Metadata, dict[str, tf.Tensor]]:
        with scope_of(self._step.strategy):
            state, seeds = self._step.state(), global_seed_generator()
            metadata = self.metadata({id(variable): name for name, variable in state.items()})
            return metadata, values_of(state if seeds is None else {**state, _KERAS_RANDOM: seeds.state})

    def metadata(self, names: Mapping[int, str] | None = None) -> Metadata:
        """That of `capture`; see `trained_variables_of` for `names`."""
        choice, watched = trained_variables_of(self._step, names), self._step.watcher.state()
        return {"choice": choice, "settings": self._made_with(), "watched": watched}

    def _made_with(self) -> dict[str, Json]:
        return made_with(self._step, lambda: settings_of(self._step))

    def check(self, file: TensorFile) -> None:
        if "choice" not in file.metadata:
            raise ValueError(
                f"`step` is a `TrainStep`, and the checkpoint {file.path!r} was made with a dict of "
                f"{first_few(list(file.metadata['objects']))}: restore it with such a dict, or name another "
                "folder."
            )
        there = (file.metadata.get("settings") or {}).get("optimizer")  # earlier versions saved none
        if there is not None and there != (here := self._made_with()["optimizer"]):
            raise ValueError(
                f"`optimizer` is {here}, and the checkpoint {file.path!r} was made with {there}: make it as "
                "it was, or name another folder. (`models.load_weights` reads the weights alone.)"
            )
        check_trained_variables(self._step, file)

    def read_settings(self) -> None:
        """Reads the settings of the step, ahead of `warn_of_differences`."""
        self._settings = settings_of(self._step)

    def warn_of_differences(self, file: TensorFile) -> None:
        now, self._settings = self._settings or settings_of(self._step), None
        warn_of(differences_of(self._step, now, file.metadata, file.values), file)

    def restore(self, metadata: Metadata, values: Mapping[str, tf.Tensor]) -> None:
        tree = self._step.named.tree
        self.restore_metadata(metadata, tree)  # first: what trains decides which names there are
        with scope_of(self._step.strategy):
            assign_values((variable, values[name]) for name, variable in self._step.state().items())
            weights_were_set(node.layer for node in tree.nodes)
            if _KERAS_RANDOM in values:
                restore_global_seeds(values[_KERAS_RANDOM])

    def restore_metadata(self, metadata: Metadata, tree: ModelTree | None = None) -> None:
        """Restores what `metadata` returned; `tree` is the model's, if it is known."""
        train_as_saved(self._step, metadata["choice"], tree)
        self._step.watcher.set_state(metadata.get("watched", {}))  # earlier checkpoints lack it


class Snapshot:
    """What `Saved.restore` changes, as it is now, to put it back."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self._metadata, self._values = saved.capture()

    def put_back(self) -> None:
        self._saved.restore(self._metadata, self._values)


def values_of(variables: Mapping[str, Variable]) -> dict[str, tf.Tensor]:
    """The values of variables, by the same names, as `in_memory` gives them."""
    # One loop after the other: this takes three quarters of the time of both in one.
    own = [each.value if isinstance(each, keras.Variable) else each for each in variables.values()]
    return in_memory(dict(zip(variables, map(_read, own))))


def _read(own: tf.Variable) -> tf.Tensor:
    if getattr(own, "distribute_strategy", None) is None:  # what `read_value` does, in a quarter of the time
        return tf.raw_ops.ReadVariableOp(resource=own.handle, dtype=own.dtype)
    return own.read_value()
