"""How a `GroupedOptimizer` is saved and loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from ..groups.saved_plan import SavedPlan
from .grouped_update import GroupedUpdate
from .named_state import Shapes, Store, assign_all, check_state, read_store, write_store


@dataclass
class Internals:
    """What Keras and TensorFlow must not find by walking the optimizer's attributes.

    They would save it a second time, by position.

    Attributes:
        optimizer: the optimizer that is wrapped.
        config: the plan by names, of an optimizer that comes from a file; None for one made with a plan.
        update: what updates the plan's variables; None until an optimizer from a file is built.
        loaded: values that Keras read from an `.h5` file before there was an `update`.
        expects_state: whether Keras is reading an `.h5` file and has not passed its state yet.
        partial: whether `partial_load` is entered.
    """

    optimizer: keras.optimizers.Optimizer
    config: SavedPlan | None
    update: GroupedUpdate | None = None
    loaded: Sequence[keras.Variable] = ()
    expects_state: bool = False
    partial: bool = False


class GroupedState(keras.optimizers.Optimizer):
    """The state of an optimizer with a plan, by stable names, in every kind of file.

    `.keras`, `.weights.h5` and checkpoints hold names. An `.h5` file holds values alone, in the order of
    `variables`, and Keras reads it before the optimizer knows any: they are set when it is built.
    """

    _internals: Internals

    @property
    def grouped_update(self) -> GroupedUpdate:
        """What updates the plan's variables; for the packages themselves, `loops.Update` above all.

        Raises:
            ValueError: the optimizer comes from a file and is not built yet.
        """
        if self._internals.update is None:
            raise ValueError(
                f"optimizer {self.name!r} comes from a config and knows its plan by names alone: call "
                "`optimizer.build(model.trainable_variables)` first"
            )
        return self._internals.update

    def named_state(self) -> dict[str, keras.Variable]:
        """Every variable that an update may write, weights excepted, under a stable name.

        To copy their values and assign them later is an exact rewind.
        """
        return {v.name: v for v in super().variables} | self.grouped_update.variables()

    @property
    def variables(self) -> list[keras.Variable]:
        """The counter, the learning rate if it is a number, the state in the plan's order, update counts."""
        update = self._internals.update
        return [*super().variables, *(update.variables().values() if update else self._internals.loaded)]

    def set_weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        """Sets `variables`, in their order, to values that Keras reads from an `.h5` file.

        An optimizer that comes from a file knows no variables yet: it sets them when it is built.

        Raises:
            StateError: other numbers or shapes than those of `variables`.
        """
        values = [np.asarray(value) for value in weights]  # those of a file are gone when it is closed
        own = {v.name: v for v in super().variables}
        internals = self._internals
        if internals.update is not None:
            assign_all(own | internals.update.variables(), values)
            return
        assign_all(own, values[: len(own)])
        internals.expects_state = False
        internals.loaded = [
            keras.Variable(value, dtype=value.dtype.name, trainable=False, name=f"loaded_{index}")
            for index, value in enumerate(values[len(own) :])
        ]

    def _assign_loaded(self, update: GroupedUpdate) -> None:
        """Sets the state, now that there is one, to the values that an `.h5` file held."""
        if self._internals.loaded:
            assign_all(update.variables(), [variable.numpy() for variable in self._internals.loaded])
        elif self._internals.expects_state:
            warnings.warn(
                f"Keras has read no state for optimizer {self.name!r} from the `.h5` file (it passes over "
                "what is within a loss scale): moments start anew. `.keras` files hold them.",
                stacklevel=4,
            )
        self._internals.loaded = ()

    def save_own_variables(self, store: Store) -> None:
        """Writes the state, keyed by stable names, to a Keras file's store.

        Raises:
            ValueError: the state has come from an `.h5` file, without names, and the optimizer is not built.
        """
        update = self._internals.update
        if self._internals.loaded:
            raise ValueError(
                f"optimizer {self.name!r} has its state from an `.h5` file, which holds no names: call "
                "`model.optimizer.build(model.trainable_variables)` before you save it in another format"
            )
        named = {v.name: v for v in super().variables} | (update.state if update else {})
        arrays = {name: variable.numpy() for name, variable in named.items()}
        counts = update.counts.by_name() if update else {}
        write_store(store, arrays | {f"{name}/updates": np.int64(n) for name, n in counts.items()})

    def load_own_variables(self, store: Store) -> None:
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
        for name, variable in {**own, **self.grouped_update.state}.items():
            if name in arrays and arrays[name].shape == tuple(variable.shape):
                variable.assign(arrays[name])

    def _restore(self, counts: dict[str, int], shapes: Shapes) -> None:
        """Sets update counts to those of a checkpoint, if its state fits."""
        wanted = {name: tuple(v.shape) for name, v in self.grouped_update.state.items()}
        if self._internals.partial:
            # Where moments start anew, so does their bias correction.
            anew = {name.rsplit("/", 1)[0] for name in wanted if shapes.get(name) != wanted[name]}
            counts = {name: count for name, count in counts.items() if name not in anew}
        else:
            check_state(shapes, wanted)
        self.grouped_update.counts.restore(counts, self._internals.partial)

    @contextmanager
    def partial_load(self) -> Iterator[None]:
        """Within this context, loading takes the state that fits and leaves the rest as it is."""
        self._internals.partial = True
        try:
            yield
        finally:
            self._internals.partial = False
