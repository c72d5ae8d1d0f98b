"""The variables that a training step trains: chosen, trainable, and not frozen by the optimizer's plan."""

from __future__ import annotations

import keras

from ...optim import GroupedOptimizer, Plan, SelectionError, select, variable_infos
from ...optim.filters.selection import VariablesOrFilters, variables_or_filters
from ...optim.updates.settings import Settings


class ChosenVariables:
    """The variables that a step trains; they change as layers and groups are frozen and unfrozen.

    Args:
        model: the model that trains.
        optimizer: without its loss scale; the plan of a `GroupedOptimizer` may freeze groups.
        variables: the variables to train: variables, or filters as `optim.select` takes them; None for all.
        outer: the loss scale around the optimizer, or None.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        variables: VariablesOrFilters | None,
        outer: keras.optimizers.Optimizer | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._outer = outer or optimizer
        self._settings: Settings | None = None
        self._plan: Plan | None = None  # the plan for which `_training` was computed
        self.choose(variables)

    def choose(self, variables: VariablesOrFilters | None) -> None:
        """Sets the choice; raises as `variables_or_filters` does, or ValueError if nothing can train."""
        filters = None
        if variables is not None:
            chosen = variables_or_filters("variables", self._model, variables)
            filters = list(variables) if isinstance(variables, (list, tuple)) else [variables]
        elif self._model.trainable_variables:
            chosen = list(self._model.trainable_variables)
        else:
            raise ValueError(
                "`model` has no trainable variables: set `trainable = True` on the layers to train."
            )
        self._filters = filters
        self._set_chosen(chosen)

    @property
    def chosen(self) -> list[keras.Variable]:
        """The chosen variables that are trainable now."""
        if [each.trainable for each in self._switches] != self._flags:
            self._set_chosen(self._choose_again())
        return self._chosen

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that train now: a new list whenever they, or a layer's `trainable`, have changed."""
        chosen = self.chosen
        inner = self._optimizer
        if not isinstance(inner, GroupedOptimizer):
            return chosen
        if not inner.built:  # loaded from a file, it has its plan by names
            inner.build(self._model.trainable_variables)
        # Plans are immutable: `freeze` and `unfreeze` make a new one.
        if self._plan is not inner.plan:
            inner.take_in(chosen)  # adds variables of layers that were frozen when it was saved
            frozen = {id(variable) for variable in inner.plan.frozen}
            training = [variable for variable in chosen if id(variable) not in frozen]
            if not training:
                raise ValueError(
                    "`optimizer` has a plan in which all that this step trains is frozen: unfreeze a group "
                    "of it, with `optimizer.unfreeze(name)`, or choose other variables."
                )
            self._plan, self._training = inner.plan, training
        return self._training

    @property
    def settings(self) -> Settings:
        """The settings of the optimizer and of those inside it; read it after `variables`."""
        if self._settings is None:
            inner = self._optimizer
            grouped = inner.grouped_update.followed.optimizers if isinstance(inner, GroupedOptimizer) else []
            self._settings = Settings([self._outer, inner, *grouped])
        return self._settings

    @property
    def key(self) -> tuple[object, ...]:
        """What a traced step depends on: trained variables, `trainable` of layers, optimizer state."""
        training, inner = self.variables, self._optimizer
        state = inner.grouped_update if isinstance(inner, GroupedOptimizer) else None
        return (*self._flags, state, *map(id, training))

    def _set_chosen(self, chosen: list[keras.Variable]) -> None:
        infos = variable_infos(self._model)
        owners = {id(info.layer): info.layer for info in infos}
        self._switches = [self._model, *owners.values(), *(info.variable for info in infos)]
        self._flags = [each.trainable for each in self._switches]
        self._chosen = chosen
        self._plan = None
        self._training = chosen

    def _choose_again(self) -> list[keras.Variable]:
        """The chosen variables, after a layer was frozen or unfrozen."""
        trainable = list(self._model.trainable_variables)
        if self._filters is None:
            ids = {id(variable) for variable in trainable}
        else:
            ids = {id(item) for item in self._filters if isinstance(item, keras.Variable)}
            for item in self._filters:
                if not isinstance(item, keras.Variable):
                    try:
                        ids.update(map(id, select(self._model, item)))
                    except SelectionError:  # all that it matches is frozen now
                        continue
        chosen = [variable for variable in trainable if id(variable) in ids]
        if not chosen:
            raise ValueError(
                "`model` has `trainable = False` by now on all that this step trains: set it to True on a "
                "layer, or choose others with `step.train_only(...)`."
            )
        return chosen
