"""What a `GroupedOptimizer` gives to files and takes from them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from ..groups.saved_plan import SavedPlan
from ..updates.base import GroupedVariable
from .grouped_update import GroupedUpdate
from .named_state import Shapes, assign_all, check_state, read_store, write_store


class Core:
    """What neither Keras nor TensorFlow is to find by walking the optimizer's attributes.

    They would save it a second time, by position.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, config: SavedPlan | None) -> None:
        self.optimizer = optimizer
        self.config = config
        self.planned: GroupedUpdate | None = None
        self.by_id: dict[int, GroupedVariable] = {}
        self.waiting: list[keras.Variable] = []
        self.unread = False  # whether Keras reads an `.h5` file and has not given its state yet
        self.partial = False


class GroupedState(keras.optimizers.Optimizer):
    """The state of an optimizer with a plan, by stable names, in every kind of file.

    `.keras`, `.weights.h5` and checkpoints hold names. An `.h5` file holds values alone, in the order of
    `variables`, and Keras reads it before the optimizer knows any: they wait until it is built.
    """

    _core: Core

    @property
    def _planned(self) -> GroupedUpdate:
        if self._core.planned is None:
            raise ValueError(
                f"optimizer {self.name!r} comes from a config and knows its plan by names alone: call "
                "`optimizer.build(model.trainable_variables)` first"
            )
        return self._core.planned

    def named_state(self) -> dict[str, Any]:
        """Every variable that an update may write, weights excepted, under a stable name.

        Values copied from them and given back later are an exact rewind.
        """
        return {v.name: v for v in super().variables} | self._planned.stored()

    @property
    def variables(self) -> list[keras.Variable]:
        """The counter, the learning rate if it is a number, the state in the plan's order, update counts."""
        planned = self._core.planned
        return [*super().variables, *(planned.stored().values() if planned else self._core.waiting)]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Takes values for `variables`, in their order, as Keras reads them from an `.h5` file.

        An optimizer that comes from a file knows no variables yet: it keeps the values until it is built.

        Raises:
            StateError: other numbers or shapes than those of `variables`.
        """
        values = [np.asarray(value) for value in weights]  # those of a file are gone when it is closed
        own = super().variables
        if self._core.planned is None:
            assign_all({v.name: v for v in own}, values[: len(own)])
            self._core.unread = False
            self._core.waiting = [
                keras.Variable(value, dtype=value.dtype.name, trainable=False, name=f"waiting_{place}")
                for place, value in enumerate(values[len(own) :])
            ]
        else:
            assign_all({v.name: v for v in own} | self._core.planned.stored(), values)

    def _give_waiting(self, planned: GroupedUpdate) -> None:
        """Gives the values that an `.h5` file held to the state, now that there is one."""
        if self._core.waiting:
            assign_all(planned.stored(), [variable.numpy() for variable in self._core.waiting])
        elif self._core.unread:
            warnings.warn(
                f"Keras has read no state for optimizer {self.name!r} from the `.h5` file (it passes over "
                "what is within a loss scale): moments start anew. `.keras` files give them back.",
                stacklevel=4,
            )
        self._core.waiting = []

    def save_own_variables(self, store: Any) -> None:
        """Writes the state, keyed by stable names, to a Keras file's store.

        Raises:
            ValueError: the state has come from an `.h5` file, without names, and waits for `build`.
        """
        planned = self._core.planned
        if self._core.waiting:
            raise ValueError(
                f"optimizer {self.name!r} has its state from an `.h5` file, which holds no names: call "
                "`model.optimizer.build(model.trainable_variables)` before you save it in another format"
            )
        named = {v.name: v for v in super().variables} | (planned.state if planned else {})
        arrays = {name: variable.numpy() for name, variable in named.items()}
        numbers = planned.numbers() if planned else {}
        write_store(store, arrays | {f"{name}/updates": np.int64(n) for name, n in numbers.items()})

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` has written.

        Raises:
            StateError: the file's state is of other variables or of another plan.
        """
        arrays = read_store(store)
        own = {v.name: v for v in super().variables}
        counts = {n: int(arrays.pop(f"{n}/updates")) for n in self.plan.order if f"{n}/updates" in arrays}
        state = {name: array for name, array in arrays.items() if name not in own}
        if state:  # none in a file of an optimizer that was not built
            self._restore(counts, {name: array.shape for name, array in state.items()})
        for name, variable in {**own, **self._planned.state}.items():
            if name in arrays and arrays[name].shape == tuple(variable.shape):
                variable.assign(arrays[name])

    def _restore(self, counts: dict[str, int], shapes: Shapes) -> None:
        """Takes the counts of a checkpoint, unless its state does not fit."""
        wanted = {name: tuple(v.shape) for name, v in self._planned.state.items()}
        if self._core.partial:
            # Where moments start anew, so does their bias correction.
            anew = {name.rsplit("/", 1)[0] for name in wanted if shapes.get(name) != wanted[name]}
            counts = {name: count for name, count in counts.items() if name not in anew}
        else:
            check_state(shapes, wanted)
        self._planned.set_numbers(counts, self._core.partial)

    @contextmanager
    def partial_load(self) -> Iterator[None]:
        """Within this context, loading takes the state that fits and leaves the rest as it is."""
        self._core.partial = True
        try:
            yield
        finally:
            self._core.partial = False
