"""`Unfreeze`: gradual unfreezing, in which more of a model trains as training goes on."""

from __future__ import annotations

import math

from tqdm import tqdm

from ...optim import named_variables
from ...optim.common.arguments import whole_number
from ...optim.common.types import Array
from ..step.train_step import TrainStep
from ..step.trainable import names_of
from .plateau import Plateau
from .steps_callback import StepsCallback, batches_trained
from .unfreeze_schedule import (
    Stage,
    Stages,
    UnfreezeState,
    check_base,
    check_end,
    checked_stages,
    is_unfreeze_state,
    resolve_stages,
    top_down,
    unfreeze_groups,
)

_BY = ("epoch", "step", "plateau")


class Unfreeze(StepsCallback):
    """Unfreezes more of a model at given times; variables that trained before continue to train.

    It changes the variables that the `TrainStep` trains, as `train_only` does: the optimizer's state stays,
    each new set of variables is traced once, gradients that were accumulated but not applied are dropped, and
    a BatchNorm that does not train yet keeps its statistics. The optimizer sets the learning rates: with a
    `GroupedOptimizer` and `optim.discriminative` or `optim.layerwise_decay`, each part has its own rate from
    the moment it trains. Bias corrections, such as Adam's, count the updates of each variable in a
    `GroupedOptimizer` (of each group if it is not `fused`). In Keras' optimizers they count the updates of
    the run, so the first steps of a variable that is unfrozen late are too large.

    The variables that train depend only on the time and, without a stage at time 0, on those that trained at
    first. So a run resumes from a `Checkpoint` as if it had not stopped, and also from a
    `keras.callbacks.BackupAndRestore`. With the latter, save `state()` beside the backup and pass it to
    `set_state` in these cases, in which a new `Unfreeze` cannot know how the run began:

    - with `by="plateau"`, since plateaus are counted here;
    - from the top down with `by="step"`, if the backup was made within an epoch, or the step had trained
      before this run;
    - without a stage at time 0, if the step has trained in this process already, or its state was restored.

    If the same object is used in another run of the same step, it continues where it stopped; choices of
    `train_only` in between are undone, and plateaus count from 0.

    Args:
        stages: maps a time, from 0, to the variables that also train from then on: a filter as `optim.select`
            takes it (a list for several; `"*"` or `all` for everything), or the name of a group of the
            optimizer's plan. Without a stage at time 0, training begins with the variables of the step. None
            to unfreeze from the top down: the groups of the optimizer's plan if it has several (groups that
            it freezes stay frozen), else the layers as `optim.depths` counts them. First the top trains, then
            one more group or layer each `every`, or several at once if there is not time for all (all at the
            beginning, if there is time for one stage only).
        by: the unit of time: `"epoch"` for epochs of the run; `"step"` for batches in all of the step's
            training, from the top down for those since training first began; `"plateau"` for the times that
            `monitor` stopped getting better.
        every: time between two stages, where `stages` is None.
        monitor: with `by="plateau"`, the name in the epoch's logs to watch.
        mode: `"min"` if a lower `monitor` is better, `"max"` if a higher one is; None: by its name.
        patience: epochs without a better value that make a plateau.
        min_delta: the smallest change that counts as better.
        verbose: 1 to print a line when variables are unfrozen.

    A group that the optimizer's plan freezes is unfrozen when a stage takes variables of it.

    Raises:
        TypeError: `stages` is no mapping, a time is no whole number, or a stage is no filter.
        ValueError: a time below 0, no stages, an unknown `by` or `mode`, a number out of range; when training
            begins: a time after the end of the run, nothing to unfreeze, an optimizer that was built without
            what a stage trains, a state of another model, or no `TrainStep` (`keras.Model.fit` has none).
        SelectionError: when training begins: a stage that matches nothing, or that `trainable=False` freezes.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops, optim
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> plan = optim.partition(model, {"body": optim.Group("body", lr_scale=0.1), "head": "head"})
        >>> step = loops.TrainStep(model, "mse", optim.GroupedOptimizer(keras.optimizers.Adam(), plan))
        >>> data = loops.Batches(np.ones((8, 3), "float32"), np.zeros((8, 2), "float32"), batch_size=4)
        >>> unfreeze = loops.Unfreeze({0: "head", 2: all}, verbose=1)
        >>> history = loops.train(step, data, epochs=3, callbacks=[unfreeze])
        epoch 0: head trains, 2 of 4 variables
        epoch 2: everything trains too, 4 of 4 variables
        >>> step.traces
        2

    Reference: Howard & Ruder 2018, "Universal language model fine-tuning for text classification" (section
    3.3, gradual unfreezing).
    """

    def __init__(
        self,
        stages: Stages | None = None,
        *,
        by: str = "epoch",
        every: int = 1,
        monitor: str = "val_loss",
        mode: str | None = None,
        patience: int = 1,
        min_delta: float = 0.0,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        if by not in _BY:
            raise ValueError(f"`by` must be one of {', '.join(map(repr, _BY))}, not {by!r}.")
        self._by = by
        self._every = whole_number("every", every, at_least=1)
        self._verbose = verbose
        self._stages = None if stages is None else checked_stages(stages)
        self._plateau = Plateau(monitor, mode, patience, min_delta) if by == "plateau" else None
        self._schedule: list[Stage] = []
        self._began_with: TrainStep | None = None  # None also after `set_state`
        self._base: list[str] | None = None  # these two: see `UnfreezeState`
        self._span: tuple[int, int] | None = None

    # -- Keras' hooks --------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        step = self._step()
        if self._began_with not in (None, step):
            self._base = self._span = None
        self._schedule = self._make_schedule(step)
        at_once = self._schedule[0].when == 0
        if self._base is None:
            self._base = [] if at_once else names_of(step, step.variables)
        check_base(step, self._base, at_once)
        if self._plateau is not None and self._began_with is not None:
            self._plateau.set_state(None)
        self._began_with = step

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._by == "epoch":
            self._unfreeze(epoch)
        elif self._plateau is not None:
            self._unfreeze(self._plateau.count)
        else:
            done = int(self._step().batches_done.numpy())
            if self._stages is None and self._span is None:
                # A run from a backup begins at a later epoch. If the length of epochs is unknown, training
                # before the run cannot be counted.
                steps = (self.params or {}).get("steps")
                self._span = max(done - epoch * (steps or done), 0), len(self._schedule)
            self._unfreeze(done)

    def on_train_steps_end(self, first: int, values: dict[str, Array]) -> None:
        if self._by == "step":
            self._unfreeze(first - 1 + len(next(iter(values.values()))))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._plateau is not None:
            self._plateau.add(logs or {})

    def steps_allowed(self, done: int) -> int | None:
        """The number of steps until the next stage begins."""
        now = self._schedule_time(done)
        later = [stage.when for stage in self._schedule if stage.when > now]
        return later[0] - now if self._by == "step" and later else None

    # -- saving and resuming -------------------------------------------------------------------------------

    def state(self) -> UnfreezeState:
        """The progress of unfreezing, as JSON; for `set_state`, in this process or another.

        Example:
            >>> from gradloop import loops
            >>> loops.Unfreeze({0: "head", 1: "*"}, by="plateau").state()["plateau"]
            {'count': 0, 'best': None, 'waited': 0}
        """
        return {
            "base": None if self._base is None else list(self._base),
            "span": None if self._span is None else list(self._span),
            "plateau": None if self._plateau is None else self._plateau.state(),
        }

    def set_state(self, state: UnfreezeState) -> None:
        """Restores the result of `state` for the next run; raises ValueError for anything else."""
        top_down_by_step = self._by == "step" and self._stages is None
        if not is_unfreeze_state(state, top_down_by_step, self._plateau is not None):
            raise ValueError(
                f"`state` is not that of an `Unfreeze` with by={self._by!r}: {state!r}. Pass what `state()` "
                "returned for one with the same arguments."
            )
        if self._plateau is not None:
            self._plateau.set_state(state["plateau"])
        self._base = None if state["base"] is None else list(state["base"])
        self._span = None if state["span"] is None else (state["span"][0], state["span"][1])
        self._began_with = None

    # -- unfreezing ----------------------------------------------------------------------------------------

    def _step(self) -> TrainStep:
        if self.train_step is None:
            raise ValueError(
                "`Unfreeze` changes what a `loops.TrainStep` trains, and has none: pass it to `loops.train`, "
                "or call `set_train_step(step)` in a loop of your own."
            )
        return self.train_step

    def _make_schedule(self, step: TrainStep) -> list[Stage]:
        length = self._run_length()
        if self._stages is None:
            number = None if length is None else math.ceil(length / self._every)
            # A second run of another length keeps the number of stages, so it does not freeze anything again.
            return resolve_stages(step, top_down(step, self._every, self._span[1] if self._span else number))
        if length is not None:
            check_end(self._stages, self._by, length + (batches_trained(step) if self._by == "step" else 0))
        return resolve_stages(step, self._stages)

    def _run_length(self) -> int | None:
        """The number of epochs or steps in the run; None if it is not known."""
        epochs, steps = ((self.params or {}).get(name) for name in ("epochs", "steps"))
        if self._by == "epoch":
            return epochs
        return None if self._by == "plateau" or epochs is None or steps is None else epochs * steps

    def _schedule_time(self, time: int) -> int:
        """The time counted from the start of the schedule."""
        return max(time - self._span[0], 0) if self._span else time

    def _unfreeze(self, time: int) -> None:
        """Unfreezes the variables of all stages whose time has come."""
        step = self._step()
        if self._base is None:
            raise ValueError("`Unfreeze` has not begun: call `on_train_begin()` before the first epoch.")
        names = named_variables(step.model)
        chosen = {id(names[name]) for name in self._base}
        reached = [stage for stage in self._schedule if stage.when <= self._schedule_time(time)]
        for stage in reached:
            chosen.update(map(id, stage.variables))
        if chosen == {id(variable) for variable in step.variables}:
            return
        unfreeze_groups(step, chosen)
        step.train_only(*(v for v in step.model.trainable_variables if id(v) in chosen))
        if self._verbose:
            what = reached[-1].text if reached else "what trained at first"
            trains = "train" if ", " in what else "trains"
            too = " too" if self._base and reached or len(reached) > 1 else ""
            total = len(step.model.trainable_variables)
            tqdm.write(f"{self._by} {time}: {what} {trains}{too}, {len(step.variables)} of {total} variables")
