"""Going back to the last checkpoint where a step finds NaN or infinity, if it is to `Restore`."""

from __future__ import annotations

import sys

from tqdm import tqdm

from ..checkpoint.checkpoint import Checkpoint
from ..step.train_step import TrainStep
from ..update.nonfinite import NonFiniteError


def check_restores(step: TrainStep, checkpoint: Checkpoint | None) -> None:
    """Raises ValueError if a step is to go back to a checkpoint and there is to be none."""
    if step.rate_cuts is not None and checkpoint is None:
        raise ValueError(
            f"`checkpoint` is None, and `step` has on_nonfinite={step.on_nonfinite!r}, which goes back to "
            'one: pass the path of a folder, or make the step with "raise" or "skip".'
        )


class GoingBack:
    """Decides whether a run goes back to its last checkpoint, and tells it.

    Args:
        step: of the run.
        checkpoint: of the run; None for none.

    Attributes:
        cuts: how often the rates are to be cut where the run goes on; None for as often as there.
    """

    def __init__(self, step: TrainStep, checkpoint: Checkpoint | None) -> None:
        self._step = step
        self._checkpoint = checkpoint
        self.cuts: int | None = None

    def after(self, error: NonFiniteError) -> None:
        """Raises an error of the run, unless that is to go back."""
        cuts = self._step.rate_cuts
        newest = self._checkpoint.newest if self._checkpoint is not None else None
        # A note is of what failed as the run closed: going on would leave that untold.
        if cuts is None or newest is None or getattr(error, "__notes__", None):
            raise error
        before, times = int(cuts.count.numpy()), cuts.restore.times
        if before >= times:
            told = NonFiniteError(
                f"{error} Training went back to a checkpoint {before} times before, and `on_nonfinite` "
                f"allows {times}. The last good one is {newest!r}."
            )
            told.step, told.variable, told.records = error.step, error.variable, error.records
            raise told from error
        self.cuts = before + 1
        tqdm.write(
            f"{str(error).partition('. ')[0]}. Training goes back to {newest}, and on at "
            f"{cuts.restore.factor**self.cuts:.3g} times the learning rates that are set "
            f"({self.cuts} of {times} times)",
            file=sys.stderr,
        )
