"""The compiled step for what trains now."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from ..device.make_loop import Loop
from ..distribute.scope import scope_of
from ..update.step_update import StepUpdate
from .choice import Choice
from .compiled_step import CompiledStep
from .meters import Wanted


class CompiledSteps:
    """A `CompiledStep` for each choice of variables that has run: going back to an earlier one is no trace.

    Args:
        choice: what trains, and with which settings of the optimizer.
        strategy: in whose scope updates and steps are made; None for none.
        make_update: makes the update of some variables.
        make_step: makes the step around an update, and what it measures, None for nothing.
        loops: the loop of each step made is added to it.
    """

    def __init__(
        self,
        choice: Choice,
        strategy: tf.distribute.Strategy | None,
        make_update: Callable[[list[keras.Variable]], StepUpdate],
        make_step: Callable[[StepUpdate, Wanted | None], CompiledStep],
        loops: list[Loop],
    ) -> None:
        self._choice = choice
        self._strategy = strategy
        self._make_update = make_update
        self._make_step = make_step
        self._loops = loops
        # By `Choice.key`, and what is measured.
        self._compiled: dict[tuple[object, Wanted | None], CompiledStep] = {}
        self._updates: dict[tuple[object, ...], StepUpdate] = {}
        self._key: tuple[object, ...] = ()  # of what ran last
        self._last: list[keras.Variable] | None = None  # what trained then

    def current(self, wanted: Wanted | None = None) -> CompiledStep:
        """The step for what trains now, which measures what is wanted; made where it was not yet."""
        variables = self._choice.variables
        if self._choice.settings.changed():  # what was traced has the old ones
            self._compiled.clear()
            self._last = None
        if variables is not self._last or (self._key, wanted) not in self._compiled:
            with scope_of(self._strategy):
                key = self._choice.key
                if (key, wanted) not in self._compiled:
                    self._compiled[key, wanted] = self._compile(variables, key, wanted)
                    self._choice.settings.changed()  # one that was built here has its state now
                    self._loops.append(self._compiled[key, wanted].loop)
                if key != self._key:
                    # Accumulated gradients belong to the previous choice.
                    for update in self._updates.values():
                        update.reset_accumulators()
            self._last, self._key = variables, key
        return self._compiled[self._key, wanted]

    def drop_accumulated(self) -> None:
        """Has the next step begin with no accumulated gradients, even if the same variables train."""
        self._key = ()

    def _compile(
        self, variables: list[keras.Variable], key: tuple[object, ...], wanted: Wanted | None
    ) -> CompiledStep:
        if key not in self._updates:
            self._updates[key] = self._make_update(variables)
        return self._make_step(self._updates[key], wanted)
