"""How an optimizer gets its variables: from a plan, or by names from the plan that a file holds."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from ..common.types import Array
from ..groups.plan import Plan
from ..groups.saved_plan import SavedPlan
from ..naming.stable_names import NotBuiltError, named_variables
from ..private.keras_private import calling_models
from .grouped_update import GroupedUpdate


@dataclass
class Internals:
    """What Keras and TensorFlow must not find by walking the optimizer's attributes.

    They would save it a second time, by position.
    """

    optimizer: keras.optimizers.Optimizer  # that is wrapped
    config: SavedPlan | None  # the plan by names, of an optimizer that comes from a file; else None
    update: GroupedUpdate | None = None  # of the plan's variables; None until one from a file is built
    loaded: Sequence[keras.Variable] = ()  # what Keras read from an `.h5` file before there was an `update`
    # Values by name, from other files, of variables that the optimizer does not know yet.
    waiting: dict[str, Array] = field(default_factory=dict)
    expects_state: bool = False  # whether Keras reads an `.h5` file and has not passed its state yet
    partial: bool = False  # whether `partial_load` is entered
    exempt: Sequence[str] = ()  # names of variables that do not decay, of one that comes from a file


class PlannedOptimizer(keras.optimizers.Optimizer):
    """An optimizer over the variables of a plan."""

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

    def saved_plan(self) -> SavedPlan:
        """The plan by names, with those of variables that have not come yet."""
        update, config = self._internals.update, self._internals.config
        if update is not None:
            return SavedPlan.of(update.plan, config)
        assert config is not None
        return config

    def build(self, variables: Sequence[keras.Variable] | keras.layers.Layer) -> None:
        """Checks that `variables` are the plan's; state was made with the optimizer.

        Only an optimizer that comes from a file has none yet: its plan is bound to these variables, by their
        stable names. The model knows those, so it may be passed instead of its trainable variables; else it
        is looked for among what the calling functions work on. Variables of a layer with `trainable = False`
        may come later; their state waits for them.

        Raises:
            ValueError: a variable that is not in the plan, or, without the model, two that may be exchanged.
        """
        models: Iterable[keras.layers.Layer]
        if isinstance(variables, keras.layers.Layer):
            models, variables = [variables], variables.trainable_variables
        else:
            models = calling_models(variables)
        update = self._internals.update
        if update is None and not variables:
            # Keras reads an `.h5` file, and passes the model's own variables, not those of its layers.
            self._internals.expects_state = True
        elif update is None:
            with tf.init_scope():  # `fit` gets here while it traces
                self._use(_bound(self.saved_plan(), variables, models))
        else:
            self.take_in(variables)
            self.grouped_update.members_of(variables)

    def take_in(self, variables: Sequence[keras.Variable]) -> None:
        """Binds the plan of a file to those of its variables that come late; does nothing for others.

        What was traced before must be traced again: `grouped_update` is another one.
        """
        update = self.grouped_update
        if not update.unknown(variables):
            return
        saved, known = self.saved_plan(), update.plan.variables
        if len(saved.variables) > len(known):
            given = {id(variable) for variable in variables}
            everything = [*variables, *(v for v in known.values() if id(v) not in given)]
            plan = _bound(saved, everything, calling_models(everything))
            if len(plan.order) > len(known):
                with tf.init_scope():
                    self._use(plan)

    def _use(self, plan: Plan) -> None:
        """Makes the state for a plan, with the values of files and of the update so far."""
        internals, before = self._internals, self._internals.update
        own = [group.optimizer for group in plan.groups.values() if group.optimizer is not None]
        exempt = [plan.variables[name] for name in internals.exempt if name in plan.variables]
        for optimizer in [internals.optimizer, *own] if exempt else []:
            optimizer.exclude_from_weight_decay(var_list=exempt)
        internals.update = GroupedUpdate(plan, internals.optimizer)
        try:
            self._take_state(before)
        except ValueError:
            internals.update = before
            raise
        # Keras would average, too. (`check_set` refuses another value once there is state.)
        self.__dict__["use_ema"] = False
        self._build_untracked(list(plan.variables.values()))
        self.__dict__["use_ema"] = internals.optimizer.use_ema

    @abc.abstractmethod
    def _take_state(self, before: GroupedUpdate | None) -> None:
        """Fills the state, now that it is there, from files and from the update that was there before."""

    # Keras would track the model's variables by position, and a checkpoint restore them into others.
    @tf.__internal__.tracking.no_automatic_dependency_tracking  # type: ignore[untyped-decorator]  # no types
    def _build_untracked(self, variables: list[keras.Variable]) -> None:
        super().build(variables)


def _bound(
    saved: SavedPlan, variables: Sequence[keras.Variable], models: Iterable[keras.layers.Layer]
) -> Plan:
    """The plan over these variables, by the stable names of the one of `models` that it was made for."""
    for model in models:
        with contextlib.suppress(NotBuiltError):
            names = named_variables(model)
            if saved.names_fit(names):
                return saved.bind(variables, names)
    return saved.bind(variables)
