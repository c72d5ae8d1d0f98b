"""A whole run: epochs, validation, callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .callbacks import (
    StepsCallback,
    bound_optimizer,
    swap_back,
    wants_every_step,
    wants_every_test_step,
)
from .eval_step import EvalStep
from .feed import Feed
from .keras_private import take_initial_epoch
from .measures import Means, Records
from .nonfinite import NonFiniteError
from .pace import Pace
from .scope import scope_of
from .step import TrainStep


def train(
    step: TrainStep,
    data: Any,
    *,
    epochs: int,
    steps_per_epoch: int | None = None,
    validation: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Trains for some epochs, and has no power that a loop over `step` lacks.

    It runs as many steps in a call on the device as take a fraction of a second, or one where a callback
    has a batch hook (see `StepsCallback`); the numbers are the same. `Ctrl-C` ends training after the step
    that is running, with what was learned so far.

    A `Batches` is read from `data.epoch` on and left at the epoch that comes next; where an epoch of the run
    begins in it depends on nothing but the epoch's number. So a run that was ended by an error and that
    `keras.callbacks.BackupAndRestore` takes up again reads what it would have read without the error: from a
    `Batches` made anew, as well as from the same one, since a call that raises puts `data.epoch` back. A
    dataset is read from its beginning again. (With Keras' `SwapEMAWeights`, the backup comes before it in
    `callbacks`: after it, it would take averages for weights.)

    With an optimizer that averages weights (`use_ema=True`) the model ends with the averages, also where the
    run was stopped before its last epoch.

    The logs of an epoch are means over its examples: `loss`, each metric, and with validation `val_loss`
    and so on.

    Args:
        step: what to do with each batch.
        data: a `Batches` or a `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`.
        epochs: how many.
        steps_per_epoch: batches in an epoch: the data goes on where the last epoch stopped, and starts
            again at its end. None: each epoch is one pass over the data.
        validation: data to evaluate on, in inference mode, after each epoch.
        callbacks: Keras callbacks of any kind. They find the model, with `model.optimizer`, and may set
            `model.stop_training`.

    Returns:
        A `keras.callbacks.History`: `.history` maps each name to its values by epoch.

    Raises:
        TypeError: `step`, `data` or a callback of the wrong type.
        ValueError: `epochs` or `steps_per_epoch` below 1, empty data, endless data without
            `steps_per_epoch`.
        NonFiniteError: from the step; callbacks have been given the steps before it.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> step = loops.TrainStep(model, "mse", "adam")
        >>> data = loops.Batches(np.ones((8, 3)), np.zeros((8, 2)), batch_size=4)
        >>> history = loops.train(step, data, epochs=3, validation=data)
        >>> sorted(history.history), len(history.history["loss"])
        (['loss', 'val_loss'], 3)
    """
    if not isinstance(step, TrainStep):
        raise TypeError(f"`step` must be a `loops.TrainStep`, not {step!r}.")
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 1:
        raise ValueError(f"`epochs` must be a whole number of at least 1, not {epochs!r}.")
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"`callbacks` must be a list or tuple, not {callbacks!r}.")
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(f"`callbacks` holds {callback!r}, which is no `keras.callbacks.Callback`.")
    feed = Feed(data, steps_per_epoch)
    evaluation = None if validation is None else _Evaluation(step, validation)
    with bound_optimizer(step.model, step.optimizer):
        hooks = keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            model=step.model,
            verbose=1,  # read by `ProgbarLogger` alone, which is there only if the caller put it there
            epochs=int(epochs),
            steps=feed.steps,
        )
        run = _Run(step, feed, evaluation, hooks)
        step.model.stop_training = False
        for reader in run.readers:
            reader.set_train_step(step)
        # A callback that cannot begin ends the call here: `on_train_end` is for those that have begun.
        hooks.on_train_begin()
        try:
            run.epochs(int(epochs))
        except KeyboardInterrupt:
            step.model.stop_training = True
        except BaseException:
            # As in `fit`, a run that failed has not ended: a backup must stay. Our own close their files.
            feed.give_back()
            swap_back(hooks)
            for reader in run.readers:
                reader.on_train_end(run.logs)
            raise
        swap_back(hooks)
        averages = getattr(step.optimizer, "inner_optimizer", step.optimizer).use_ema
        if averages and int(step.optimizer.iterations.numpy()) > 0:  # before the first update there are none
            step.optimizer.finalize_variable_values(step.variables)
        hooks.on_train_end(run.logs)
    return step.model.history


class _Run:
    """The loop of `train`, with what it counts."""

    def __init__(
        self,
        step: TrainStep,
        feed: Feed,
        evaluation: _Evaluation | None,
        hooks: keras.callbacks.CallbackList,
    ) -> None:
        self._step = step
        self._feed = feed
        self._evaluation = evaluation
        self._hooks = hooks
        self.readers = [c for c in hooks.callbacks if isinstance(c, StepsCallback)]
        self._each = any(wants_every_step(callback) for callback in hooks.callbacks)
        self._pace = Pace(1) if self._each else step.pace
        self._done = 0
        self.logs: dict[str, float] = {}

    def epochs(self, epochs: int) -> None:
        first = take_initial_epoch(self._step.model)
        self._done = self._count(first)
        for epoch in range(first, epochs):
            self._hooks.on_epoch_begin(epoch)
            self._step.reset_metrics()
            self.logs = self._train_epoch(epoch)
            if self._evaluation is not None:
                for name, value in self._evaluation(self._hooks).items():
                    self.logs[f"val_{name}"] = value
            self._hooks.on_epoch_end(epoch, self.logs)
            if self._step.model.stop_training:
                return

    def _count(self, first: int) -> int:
        """The batches trained on before this run's; called when callbacks have begun."""
        step = self._step
        # An optimizer that someone restored knows of steps that `step` did not make, but not of skipped ones.
        updated = int(step.optimizer.iterations.numpy()) * step.accumulate
        ran = int(step.batches_done.numpy())
        done = max(updated, first * (self._feed.steps or 0) if first else ran)
        if done != ran:
            step.batches_done.assign(done)
        return done

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        means, batch = Means(self._step.objective.measures), 0
        begin = (lambda: self._hooks.on_train_batch_begin(batch)) if self._each else None
        try:
            for records in self._feed.epoch(epoch, self._step, self._pace, begin, self._allowed):
                means.add(records)
                self._tell(records)
                batch += len(records)
                if self._each:
                    self._hooks.on_train_batch_end(batch - 1, means.result())
                if self._step.model.stop_training:
                    break
        except NonFiniteError as error:
            if error.records is not None:
                self._tell(error.records)
            raise
        return means.result()

    def _allowed(self) -> int | None:
        """How many steps the next call may run, by those callbacks that have a say in it."""
        wishes = [reader.steps_allowed(self._done) for reader in self.readers]
        return min((max(wish, 1) for wish in wishes if wish is not None), default=None)

    def _tell(self, records: Records) -> None:
        if not len(records):
            return
        values = records.values()
        for reader in self.readers:
            reader.on_train_steps_end(self._done + 1, values)
        self._done += len(records)


class _Evaluation:
    """Validation after an epoch: the training step's loss and metrics, in inference mode.

    Metrics that keep a state are shared with training, which cannot copy them (a metric's configuration
    need not say all that it was made with): their training state is put back afterwards.
    """

    def __init__(self, step: TrainStep, data: Any) -> None:
        with scope_of(step.strategy):
            self._step = EvalStep(step.model, step.loss, step.metrics)
        self._feed = Feed(data, name="validation", steps_name=None, evaluates=True)

    def __call__(self, hooks: keras.callbacks.CallbackList) -> dict[str, float]:
        metrics = [metric for metric in self._step.metrics if isinstance(metric, keras.Metric)]
        states = [(variable, variable.numpy()) for m in metrics for variable in m.variables]
        try:
            return self._evaluate(hooks)
        finally:
            for variable, state in states:
                variable.assign(state)

    def _evaluate(self, hooks: keras.callbacks.CallbackList) -> dict[str, float]:
        self._step.reset_metrics()
        means, batch = Means(self._step.objective.measures), 0
        each = any(wants_every_test_step(callback) for callback in hooks.callbacks)
        begin = (lambda: hooks.on_test_batch_begin(batch)) if each else None
        hooks.on_test_begin()
        pace = Pace(1) if each else self._step.pace
        for records in self._feed.epoch(0, self._step, pace, begin):
            means.add(records)
            batch += len(records)
            if each:
                hooks.on_test_batch_end(batch - 1, means.result())
        logs = means.result()
        hooks.on_test_end(logs)
        return logs
