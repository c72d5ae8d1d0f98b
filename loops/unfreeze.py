"""Gradual unfreezing: more and more of a model trains as training goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from ..optim import FilterLike, named_variables
from .callbacks import StepsCallback
from .plateau import Plateau
from .stages import checked_stages, inner_optimizer, plan_of, shown, stage_variables, top_down
from .step import TrainStep

_BY = ("epoch", "step", "plateau")


class Unfreeze(StepsCallback):
    """Lets more of a model train at given times; what trained before goes on training.

    It acts on the `TrainStep` as `train_only` does: moments and other optimizer state are kept, each new
    choice is traced once, gradients that were accumulated but not applied are dropped, and BatchNorm that
    does not train yet keeps its statistics. Learning rates are the optimizer's: with a `GroupedOptimizer`
    on `optim.discriminative` or `optim.layerwise_decay` each part has its own from the moment it trains.

    What trains depends on the time alone, so a run that `keras.callbacks.BackupAndRestore` takes up again
    goes on as it would have; with `by="plateau"`, where time is counted here, keep `state()` too.

    Args:
        stages: maps a time, from 0, to what trains from then on as well: a filter as `optim.select` takes it
            (a list for several; `"*"` or `all` for everything), or the name of a group of the optimizer's
            plan. Without a stage at time 0, training begins with what the step trains. None for the model
            from the top down: the groups of the optimizer's plan if it has several (groups that it freezes
            stay frozen), else the layers as `optim.depths` counts them; one more each `every`, or as many
            together as it takes to train all of them before the end.
        by: what time counts: `"epoch"` for epochs of the run; `"step"` for batches in all of the step's
            training; `"plateau"` for the times that `monitor` stopped getting better.
        every: time between two stages, where `stages` is None.
        monitor: with `by="plateau"`, the name in the epoch's logs to watch.
        mode: `"min"` or `"max"`, which way `monitor` is better; None to tell by its name.
        patience: epochs without a better value that make a plateau.
        min_delta: what counts as better, at least.
        verbose: 1 to print a line when more trains.

    A group that the optimizer's plan freezes is unfrozen when a stage takes variables of it.

    Raises:
        TypeError: `stages` is no mapping, a time is no whole number, or a stage is no filter.
        ValueError: a time below 0, no stages, an unknown `by` or `mode`, a number out of range; when training
            begins: a time after the end of the run, nothing to unfreeze, or no `TrainStep`
            (`keras.Model.fit` has none).
        SelectionError: when training begins: a stage that matches nothing, or that `trainable=False` freezes.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="body"),
        ...                           keras.layers.Dense(2, name="head")])
        >>> step = loops.TrainStep(model, "mse", "adam")
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
        stages: Mapping[int, FilterLike | Sequence[FilterLike]] | None = None,
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
        if isinstance(every, bool) or not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"`every` must be a whole number of at least 1, not {every!r}.")
        self._by = by
        self._every = int(every)
        self._verbose = verbose
        self._stages = None if stages is None else checked_stages(stages)
        self._plateau = Plateau(monitor, mode, patience, min_delta) if by == "plateau" else None
        self._resolved: list[tuple[int, str, list[Any]]] = []
        self._base: list[str] | None = None
        self._given: dict[str, Any] | None = None

    # -- Keras' hooks --------------------------------------------------------------------------------------

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        step = self._step()
        self._resolved = self._resolve(step)
        given, self._given = self._given, None
        if given is not None:
            self._base = given["base"]
        elif self._resolved[0][0] == 0:
            self._base = []
        else:
            trained = {id(variable) for variable in step.variables}
            self._base = [name for name, v in named_variables(step.model).items() if id(v) in trained]
        if self._plateau is not None:
            self._plateau.set_state(None if given is None else given["plateau"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._by == "epoch":
            self._reach(epoch)
        elif self._plateau is not None:
            self._reach(self._plateau.count)
        else:
            self._reach(int(self._step().batches_done.numpy()))

    def on_train_steps_end(self, first: int, values: dict[str, np.ndarray[Any, Any]]) -> None:
        if self._by == "step":
            self._reach(first - 1 + len(next(iter(values.values()))))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._plateau is not None:
            self._plateau.add(logs or {})

    def steps_allowed(self, done: int) -> int | None:
        """So many steps that training returns to Python just when the next stage begins."""
        later = [when for when, _, _ in self._resolved if when > done]
        return later[0] - done if self._by == "step" and later else None

    # -- what is kept --------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where unfreezing stands, as JSON can hold it; for `set_state`, in this process or another.

        Example:
            >>> from gradloop import loops
            >>> loops.Unfreeze({0: "head", 1: "*"}, by="plateau").state()
            {'base': None, 'plateau': {'count': 0, 'best': None, 'waited': 0}}
        """
        return {"base": self._base, "plateau": None if self._plateau is None else self._plateau.state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `state` gave; the training that begins next goes on from there.

        Raises:
            ValueError: it is the state of something else.
        """
        fits = isinstance(state, Mapping) and set(state) == {"base", "plateau"}
        if not fits or (state["plateau"] is None) != (self._plateau is None):
            raise ValueError(f"`state` is not that of an `Unfreeze` with by={self._by!r}: {state!r}.")
        self._base = state["base"]
        if self._plateau is not None:
            self._plateau.set_state(state["plateau"])
        self._given = dict(state) if state["base"] is not None else None

    # -- unfreezing ----------------------------------------------------------------------------------------

    def _step(self) -> TrainStep:
        if self.train_step is None:
            raise ValueError(
                "`Unfreeze` changes what a `loops.TrainStep` trains, and has none: pass it to `loops.train`, "
                "or call `set_train_step(step)` in a loop of your own."
            )
        return self.train_step

    def _resolve(self, step: TrainStep) -> list[tuple[int, str, list[Any]]]:
        """Time, text and variables of each stage, in the order of time."""
        end = self._end(step)
        stages = top_down(step, self._every, end) if self._stages is None else self._stages
        last = max(stages)
        if end is not None and last >= end:
            raise ValueError(
                f"`stages` has {shown(stages[last])} from {self._by} {last} on, and the run ends before, "
                f"after {end} {self._by}s counted from 0: train for longer, or unfreeze earlier."
            )
        plan = plan_of(step)
        return [
            (when, shown(stages[when]), stage_variables(step, stages[when], plan)) for when in sorted(stages)
        ]

    def _end(self, step: TrainStep) -> int | None:
        """The time at which the run ends; None where that is not known."""
        params = self.params or {}
        epochs, steps = params.get("epochs"), params.get("steps")
        if self._by == "epoch" or epochs is None:
            return epochs if self._by == "epoch" else None
        if self._by == "plateau" or steps is None:
            return None
        return int(step.batches_done.numpy()) + epochs * steps

    def _reach(self, time: int) -> None:
        """Lets everything train whose time has come."""
        step = self._step()
        if self._base is None:
            raise ValueError("`Unfreeze` has not begun: call `on_train_begin()` before the first epoch.")
        names = named_variables(step.model)
        chosen = {id(names[name]) for name in self._base}
        for when, _, variables in self._resolved:
            if when <= time:
                chosen.update(map(id, variables))
        if chosen == {id(variable) for variable in step.variables}:
            return
        plan = plan_of(step)
        if plan is not None:
            groups = [
                name
                for name, group in plan.groups.items()
                if group.frozen and any(id(v) in chosen for v in plan.members[name].values())
            ]
            if groups:
                inner_optimizer(step).unfreeze(*groups)
        step.train_only(*(v for v in step.model.trainable_variables if id(v) in chosen))
        if self._verbose:
            texts = [text for when, text, _ in self._resolved if when <= time]
            too = "" if len(texts) == 1 and not self._base else " too"
            total = len(step.model.trainable_variables)
            tqdm.write(
                f"{self._by} {time}: {texts[-1]} trains{too}, {len(step.variables)} of {total} variables"
            )
