"""How a `GroupedOptimizer` is saved and loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import keras
import numpy as np
import numpy.typing as npt

from ..common.types import Array
from ..groups.saved_plan import SavedPlan
from .binding import Internals, PlannedOptimizer
from .grouped_update import GroupedUpdate
from .named_state import Shapes, Store, TrackedState, assign_all, check_state, read_store, write_store


class GroupedState(PlannedOptimizer):
    """The state of an optimizer with a plan, by stable names, in every kind of file.

    `.keras`, `.weights.h5` and checkpoints hold names. An `.h5` file holds values alone, in the order of
    `variables`, and Keras reads it before the optimizer knows any: they are set when it is built.
    """

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

    def _take_state(self, before: GroupedUpdate | None) -> None:
        internals, update = self._internals, self.grouped_update
        if internals.loaded:
            internals.waiting = _by_name(self.saved_plan(), internals)
        elif internals.expects_state and not internals.waiting and before is None:
            warnings.warn(
                f"Keras has read no state for optimizer {self.name!r} from the `.h5` file (it passes over "
                "what is within a loss scale): moments start anew. `.keras` files hold them.",
                stacklevel=5,
            )
        elif before is not None:
            internals.waiting = internals.waiting | _arrays(before)
            for updater in update.updaters:
                if updater.own_count is not None:  # who joins a group that counts for all has its count
                    names = [f"{member.name}/updates" for member in updater.members]
                    counts = [internals.waiting[name] for name in names if name in internals.waiting]
                    internals.waiting |= dict.fromkeys(names, max(counts))
        internals.loaded = ()
        self._load(internals.waiting, anew=True)
        self._tracked_state = TrackedState(update.state, update.counts.by_name, self._restore)

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
        own = {v.name: v.numpy() for v in super().variables}
        write_store(store, own | self._internals.waiting | (_arrays(update) if update else {}))

    def load_own_variables(self, store: Store) -> None:
        """Reads what `save_own_variables` has written.

        Raises:
            StateError: the file's state is of other variables or of another plan.
        """
        arrays = read_store(store)
        own = {v.name: v for v in super().variables}
        state = {name: array for name, array in arrays.items() if name not in own}
        if self._internals.update is None:  # an optimizer by itself, as `pickle` and `copy` make it
            self._internals.waiting = state
        else:
            self._load(state)
        for name, variable in own.items():
            if name in arrays and arrays[name].shape == tuple(variable.shape):
                variable.assign(arrays[name])

    def _load(self, arrays: Mapping[str, Array], anew: bool = False) -> None:
        """Sets the state to what a file holds by name; what is of variables that may come later waits.

        `anew` tells that the plan was bound to these variables just now.
        """
        if not arrays:  # of an optimizer that was not built
            return
        update = self.grouped_update
        group_of = {name: group for name, group, *_ in self.saved_plan().variables}
        first = {group: min(members) for group, members in update.plan.members.items() if members}
        state: dict[str, Array] = {}
        waiting: dict[str, Array] = {}
        for name, array in arrays.items():
            owner, _, slot = name.rpartition("/")
            # It is known by the first name of a group, which may be another one where some are late.
            if slot == "shared" and (anew or owner not in update.members):
                owner = first.get(group_of.get(owner, ""), owner)
            late = owner in group_of and owner not in update.members
            (waiting if late else state)[f"{owner}/{slot}" if owner else name] = array
        counts = {n: int(state.pop(f"{n}/updates")) for n in update.members if f"{n}/updates" in state}
        self._restore(counts, {name: array.shape for name, array in state.items()})
        for name, variable in update.state.items():
            if name in state and state[name].shape == tuple(variable.shape):
                variable.assign(state[name])
        self._internals.waiting = waiting

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
        """Within this context, loading takes the state that fits and leaves the rest as it is.

        It takes what the file has under the same name in the same shape. (From a `tf.train.Checkpoint`, names
        may be missing; another shape is an error of TensorFlow.)

        Example:
            >>> import tempfile
            >>> def optimizer_of(*names):
            ...     layers = [keras.layers.Dense(3, name=name) for name in names]
            ...     model = keras.Sequential([keras.Input((3,)), *layers])
            ...     sgd = keras.optimizers.SGD(0.1, momentum=0.9)
            ...     return GroupedOptimizer(sgd, partition(model, {"all": "*"}))
            >>> first, second = optimizer_of("body"), optimizer_of("body", "head")
            >>> first.apply([tf.ones(v.shape) for v in first.plan.variables.values()])
            >>> path = tf.train.Checkpoint(optimizer=first).write(tempfile.mkdtemp() + "/saved")
            >>> with second.partial_load():
            ...     status = tf.train.Checkpoint(optimizer=second).read(path)
            >>> [name for name, value in second.named_state().items() if np.any(value.numpy())]
            ['iteration', 'learning_rate', 'body/kernel/momentum', 'body/bias/momentum']
        """
        self._internals.partial = True
        try:
            yield
        finally:
            self._internals.partial = False


def _arrays(update: GroupedUpdate) -> dict[str, Array]:
    """The state and the update counts, as files hold them."""
    arrays = {name: variable.numpy() for name, variable in update.state.items()}
    return arrays | {f"{name}/updates": np.asarray(n, "int64") for name, n in update.counts.by_name().items()}


def _by_name(saved: SavedPlan, internals: Internals) -> dict[str, Array]:
    """The values of an `.h5` file by name; they are in the order of all variables that were saved."""
    assert internals.update is not None
    known = internals.update.members
    common = next(iter(known.values())).variable.dtype
    stand_ins = {
        name: keras.Variable(
            np.zeros(shape), dtype=known[name].variable.dtype if name in known else common, trainable=False
        )
        for name, _, shape, _ in saved.variables
    }
    update = GroupedUpdate(saved.bind(list(stand_ins.values()), stand_ins), internals.optimizer)
    assign_all(update.variables(), [variable.numpy() for variable in internals.loaded])
    return _arrays(update)
