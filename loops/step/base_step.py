"""The base class of training and evaluation steps: calls on one batch or on many, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ...optim import named_variables
from ...optim.common.arguments import whole_number
from ...optim.common.signals import DeferredSignals
from ...optim.common.types import Array, Batch, Scalar, Tensors
from ..data.arrays import common_length, to_tensors
from ..data.batches import DataIterator, check_iterator
from ..device.make_loop import Loop
from ..device.row_buffer import CAPACITY, Rows, joined
from ..device.steps_per_call import StepsPerCall
from ..device.trace_cache import Traced
from ..distribute.same_order import OrderCheck
from ..distribute.scope import check_scope, has_other_workers, scope_of, strategy_of
from ..distribute.sharding import check_can_shard, mean_over_workers_of
from ..loss.build_metrics import build_metrics
from ..loss.loss_and_metrics import Loss, LossAndMetrics
from ..loss.metrics import Metric
from ..loss.records import Records
from ..update.nonfinite import NonFiniteError
from .guarded_calls import GuardedCalls
from .named_model import NamedModel
from .named_state import unique
from .overridden_methods import check_overridden_methods
from .stateful import check_stateless


class BaseStep(GuardedCalls):
    """Runs a loss and metrics over batches; a subclass says what a step does with them.

        step(x, y)                  step.run(iterator, steps)
        check the arrays            check the iterator
        loop.run_one(batch)             loop.run_many(iterator, steps), `CAPACITY` steps at a time
        explain TensorFlow's errors about labels and non-finite numbers
        name -> scalar              name -> an array of one value for each step

    Attributes:
        strategy: the `tf.distribute.Strategy` in whose scope the model was made, or None.
        batches_done: int64 variable: the number of batches that ran, those of skipped steps included.
        loss_and_metrics: computes the loss and metrics of a batch.
        named: the names of the model's variables.
        steps_per_call: how many steps `train` runs in one call.
        interrupted: whether a call is running, or was interrupted before its end. Then the counts may differ
            from the steps that ran.
    """

    # Methods that a model's class may override for `fit`, and that a step does not call.
    _overridable_methods: tuple[str, ...]

    def __init__(self, model: keras.Model, loss: Loss, metrics: Sequence[Metric]) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a keras.Model, not {model!r}.")
        named_variables(model)  # raises for a model that is not built
        strategy = strategy_of(model.variables, "model")
        self.model = model
        self.named = NamedModel(model)
        self.loss = loss
        with scope_of(strategy):
            super().__init__(model, LossAndMetrics(model, loss, metrics), strategy)
            self.batches_done = tf.Variable(0, trainable=False, dtype=tf.int64, name="batches_done")
        if not self.loss_and_metrics.is_own_function:
            check_overridden_methods(model, loss, self._overridable_methods)
        check_stateless(model, self.strategy)
        for metric in self.loss_and_metrics.stateful_metrics:
            for variable in metric.variables:
                check_scope("metrics", variable, self.strategy)
        self.metrics = tuple(metrics)
        self.mean_over_workers = mean_over_workers_of(self.strategy)
        self.steps_per_call = StepsPerCall(mean_over_workers=self.mean_over_workers)
        self._loops: list[Loop] = []
        self.interrupted = False
        self._same_order = OrderCheck(self.mean_over_workers)

    @property
    def traces(self) -> int:
        """How often the step was traced: once for calls on one batch, once for each kind of iterator.

        A short batch causes no retrace; a `Batches` of another batch size does. So does another shape of an
        example, a longer sequence say: from then on, the dimensions that differed may have any size.
        """
        return sum(loop.traces for loop in self._loops)

    @property
    def traced(self) -> Traced | None:
        """The last traced function for the variables that train now; None before, or where none is traced."""
        return self._loop().traced

    def __call__(self, x: Tensors, y: Tensors = None, sample_weight: Tensors = None) -> dict[str, Scalar]:
        """Runs one batch.

        Args:
            x: (batch, ...) array or tensor, or a tuple or dict of such.
            y: targets, likewise; None if the loss needs none.
            sample_weight: of each example, (batch,), or of each of its losses, (batch, ...); None for 1.

        Returns:
            Name -> scalar tensor: the loss and metrics of this batch, and the values given to `loops.record`.
            (A metric that is no mean over examples, such as AUC, gives its value since `reset_metrics`.)

        Raises:
            TypeError: an array that is not a dense array of numbers or strings.
            ValueError: arrays of different lengths, no examples, labels that do not fit.
            NonFiniteError: a NaN or infinity, in a training step with `on_nonfinite="raise"`.
        """
        if has_other_workers(self.strategy):
            raise ValueError(
                "The step was called with arrays on several workers, each of which would pass its own: use "
                "`loops.train(step, data)` or `step.run(iter(data), steps)` with a `Batches` or a dataset: "
                "each worker takes its part."
            )
        named = {"x": x, "y": y, "sample_weight": sample_weight}
        if y is None and sample_weight is not None:
            raise ValueError("`sample_weight` needs `y`: without targets there is nothing to weigh.")
        common_length(named)
        batch = keras.utils.pack_x_y_sample_weight(
            *(None if value is None else to_tensors(value, name) for name, value in named.items())
        )
        return self.loss_and_metrics.batch_values(self._run_one(batch), self._last_loop.columns)

    def run(self, iterator: DataIterator, steps: int) -> dict[str, Array]:
        """Runs up to `steps` batches in calls on the device, without returning to Python after each.

        Args:
            iterator: `iter(batches)` of a `Batches`, or `iter(dataset)` of a `tf.data.Dataset`. It advances
                by the batches that ran.
            steps: how many; fewer run only if the data ends.

        Returns:
            Name -> float32 array of one value for each step that ran; NaN for a step that did not record it.

        Raises:
            ValueError: the iterator has no batch left, or is no iterator; labels that do not fit; on several
                workers, a dataset whose order differs between them.
            NonFiniteError: a NaN or infinity; its `records` hold the steps before it, which were made.
            KeyboardInterrupt: `Ctrl-C`, after the running call has ended and its steps are counted; its
                `records` hold them. (A second `Ctrl-C` does not wait.)
        """
        self._same_order.check(iterator)
        records = self.run_records(iterator, steps)
        self._after_run(iterator, steps, len(records))
        if not len(records):
            raise ValueError("`iterator` has no batch left: start another with `iter(data)`.")
        return records.values()

    def end_of_data(self) -> None:  # noqa: B027  # optional
        """Called when a pass over the data has ended."""

    def _after_run(self, iterator: DataIterator, requested: int, ran: int) -> None:  # noqa: B027  # optional
        """Called after each `run`."""

    def _steps_in_next_call(self, steps: int) -> int:
        """How many of the next `steps` the next call may run; called before each call except `step(x, y)`."""
        return steps

    def _measured(self, rows: Array, first: int) -> list[tuple[int, Any]]:
        """The measurements of the steps of a call, for `Records`; `first` is the number of the first step."""
        return []

    def run_batch(self, batch: Batch, spec: Tensors = None) -> Records:
        """Runs one batch of tensors, `(x, y)` or `(x, y, sample_weight)`, and returns its record.

        Dimensions that are unknown in `spec`, the `element_spec` of the batch's dataset, cause no retrace.
        """
        self.interrupted = True
        self._steps_in_next_call(1)
        rows = self._run_one(batch, spec).numpy()[None]
        self.interrupted = False
        return self._records([Rows(rows, self._last_loop.columns)], self._measured(rows, 0))

    def run_records(self, iterator: DataIterator, steps: int) -> Records:
        """Like `run`, but returns `Records`, which average exactly; they are empty at the end of the data."""
        check_iterator(iterator)
        check_can_shard(self.strategy, iterator)
        steps = whole_number("steps", steps, at_least=1)
        rows: list[Rows] = []
        measured: list[tuple[int, Any]] = []
        done = 0
        while done < steps:
            requested = self._steps_in_next_call(min(steps - done, CAPACITY))
            try:
                with DeferredSignals().deferred():  # so that the steps that ran are counted and recorded
                    self.interrupted = True
                    rows.append(Rows(self._run_many(iterator, requested), self._last_loop.columns))
                    measured += self._measured(rows[-1].numbers, done)
                    self.interrupted = False
            except (NonFiniteError, KeyboardInterrupt) as error:
                if isinstance(error, NonFiniteError):
                    self.interrupted = False
                    rows.append(Rows(self._last_loop.rows, self._last_loop.columns))
                records = self._records(rows, measured) if rows else None
                error.records = records  # type: ignore[union-attr]  # not declared for an interrupt
                raise
            done += requested
            if len(rows[-1].numbers) < requested:
                break
        return self._records(rows, measured)

    def _records(self, parts: Sequence[Rows], measured: Sequence[tuple[int, Any]]) -> Records:
        rows, columns = joined(parts)
        return Records(rows, self.loss_and_metrics.metrics, columns, measured)

    def reset_metrics(self) -> None:
        """Resets the metrics that have a state, that is, are not a mean over examples."""
        for metric in self.loss_and_metrics.stateful_metrics:
            metric.reset_state()

    def state(self) -> dict[str, keras.Variable | tf.Variable]:
        """Returns every variable that a step may write and a later step reads.

        Assigning a copy of their values back rewinds the step exactly: the same batches give the same numbers
        again. State that belongs to no object of the step, such as the global generator of `keras.random`, is
        not included; a `Checkpoint` saves that one, too.

        Returns:
            Name -> variable with `.numpy()` and `.assign()`; names are the same in every process: those of
            the model as in `optim.named_variables`, and its seed generators under their layers' names;
            `metrics/...`, of metrics with a state; `batches_done`. A `TrainStep` adds `optimizer/...`, the
            loss scale included, and with `accumulate` also `accumulated/...` for the variables that train
            now. It builds the optimizer first if needed.

        Example:
            >>> import keras, numpy as np
            >>> from gradloop import loops
            >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="head")])
            >>> step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1))
            >>> list(step.state())
            ['head/kernel', 'head/bias', 'batches_done', 'optimizer/iteration', 'optimizer/learning_rate']
            >>> before = {name: variable.numpy() for name, variable in step.state().items()}
            >>> x, y = np.ones((4, 3), "float32"), np.zeros((4, 1), "float32")
            >>> once = float(step(x, y)["loss"])
            >>> for name, variable in step.state().items():
            ...     _ = variable.assign(before[name])
            >>> float(step(x, y)["loss"]) == once
            True
        """
        with scope_of(self.strategy):
            build_metrics(self.loss_and_metrics)
        named = self.named.state(self.loss_and_metrics.stateful_metrics)
        return unique([*named, ("batches_done", self.batches_done)])
