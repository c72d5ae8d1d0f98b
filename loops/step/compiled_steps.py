"""A cache of compiled steps, one for each choice of trained variables."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from ..device.make_loop import Loop
from ..distribute.scope import scope_of
from ..update.step_update import StepUpdate
from .chosen_variables import ChosenVariables
from .compiled_step import CompiledStep
from .meters import MeasureRequest


class CompiledSteps:
    """A `CompiledStep` for each choice of variables that has run, so an earlier choice is not traced again.

    Args:
        choice: the variables that train, and the settings of the optimizer.
        strategy: in whose scope updates and steps are made, or None.
        make_update: makes the update of a list of variables.
        make_step: makes the step around an update; its second argument is what to measure, None for nothing.
        loops: a list to which the loop of each new step is added.
    """

    def __init__(
        self,
        choice: ChosenVariables,
        strategy: tf.distribute.Strategy | None,
        make_update: Callable[[list[keras.Variable]], StepUpdate],
        make_step: Callable[[StepUpdate, MeasureRequest | None], CompiledStep],
        loops: list[Loop],
    ) -> None:
        self._choice = choice
        self._strategy = strategy
        self._make_update = make_update
        self._make_step = make_step
        self._loops = loops
        # By `ChosenVariables.key` and what is measured.
        self._compiled: dict[tuple[object, MeasureRequest | None], CompiledStep] = {}
        self._updates: dict[tuple[object, ...], StepUpdate] = {}
        self._key: tuple[object, ...] = ()  # of the last step that ran
        self._last_variables: list[keras.Variable] | None = None  # those that it trained

    def current(self, request: MeasureRequest | None = None) -> CompiledStep:
        """The step for the variables that train now, with these measurements; compiled if it is new."""
        variables = self._choice.variables
        if self._choice.settings.changed():  # traced steps have the old settings
            self._compiled.clear()
            self._last_variables = None
        if variables is not self._last_variables or (self._key, request) not in self._compiled:
            with scope_of(self._strategy):
                key = self._choice.key
                if (key, request) not in self._compiled:
                    self._compiled[key, request] = self._compile(variables, key, request)
                    self._choice.settings.changed()  # an optimizer that was built here has its state now
                    self._loops.append(self._compiled[key, request].loop)
                if key != self._key:
                    # Accumulated gradients belong to the previous choice.
                    for update in self._updates.values():
                        update.reset_accumulators()
            self._last_variables, self._key = variables, key
        return self._compiled[self._key, request]

    def drop_accumulated_gradients(self) -> None:
        """Makes the next step drop accumulated gradients, even if the same variables train."""
        self._key = ()

    def _compile(
        self, variables: list[keras.Variable], key: tuple[object, ...], request: MeasureRequest | None
    ) -> CompiledStep:
        if key not in self._updates:
            self._updates[key] = self._make_update(variables)
        return self._make_step(self._updates[key], request)
