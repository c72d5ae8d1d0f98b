"""Steps of models that ask how many examples a batch has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class UnknownBatchSizeError(ValueError):
    """A dataset leaves open how many examples a batch has, and the model asks for that."""


class DynamicBatchSize:
    """Traces a step for any number of examples or, where that fails, as the step asks for it, for one.

    Attributes:
        fixed: whether a trace is for one number of examples.
        traces: how many there were. (Whoever traces counts them.)
    """

    def __init__(self) -> None:
        self.fixed = self._is_open = False
        self.traces = 0

    def trace_dynamic_or_fixed(self, trace: Callable[[bool], Result]) -> Result:
        """Returns `trace(False)`, for any number of examples, or where that fails `trace(True)`, for one.

        A model may ask how many examples a batch has, or have a state of that many; one that was traced for
        any number does not.
        """
        if self.fixed:
            return trace(True)
        before = self.traces
        try:
            found = trace(False)
        except (TypeError, ValueError) as error:
            if self._is_open:
                raise
            try:
                found = trace(True)
            except UnknownBatchSizeError:
                raise
            except (TypeError, ValueError):
                self.traces = before
                raise error from None
            self.fixed, self.traces = True, before + 1
        self._is_open = not self.fixed
        return found
