"""What training and evaluation steps share: calls on one batch or on many, and their checks."""

from __future__ import annotations

import abc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ...optim import named_variables
from ..data.arrays import check_dense, common_length, to_tensors
from ..data.batches import Batches, BatchIterator
from ..device.device_loop import CAPACITY
from ..device.make_loop import Loop
from ..device.steps_per_call import StepsPerCall
from ..distribute.scope import check_scope, has_other_workers, scope_of, strategy_of
from ..distribute.sharding import check_divides, mean_over_workers_of
from ..loss.labels import check_label_values, label_error, on_host
from ..loss.loss_and_metrics import Loss, LossAndMetrics
from ..loss.records import Records
from ..update.nonfinite import NonFiniteError
from .named_state import metric_state, model_state, unique


class BaseStep(abc.ABC):
    """A loss and metrics over batches; what is done with them is the subclass's.

    Args:
        model: a built model.
        loss: see `TrainStep`.
        metrics: see `TrainStep`.

    Attributes:
        strategy: the `tf.distribute.Strategy` in whose scope the model was made; None for none.
        batches_done: int64 variable: the number of batches that ran, those of skipped steps included.
        mean_over_workers: gives several workers the mean of a number, see `mean_over_workers_of`; None for
            one process.
    """

    def __init__(self, model: keras.Model, loss: Loss, metrics: Sequence[Any]) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a keras.Model, not {model!r}.")
        named_variables(model)  # raises for a model that is not built
        self.strategy = strategy_of(model.variables, "model")
        self.model = model
        self.loss = loss
        with scope_of(self.strategy):
            self.loss_and_metrics = LossAndMetrics(model, loss, metrics)
            self.batches_done = tf.Variable(0, trainable=False, dtype=tf.int64, name="batches_done")
        for metric in self.loss_and_metrics.stateful_metrics:
            for variable in metric.variables:
                check_scope("metrics", variable, self.strategy)
        self.metrics = tuple(metrics)
        self.mean_over_workers = mean_over_workers_of(self.strategy)
        self.steps_per_call = StepsPerCall(mean_over_workers=self.mean_over_workers)
        self._labels_fit: weakref.ref[Batches] | None = None

    @property
    def traces(self) -> int:
        """How often the step was traced: once for calls on one batch, once for each kind of iterator.

        A short batch is no trace; a `Batches` of another batch size is one. Another shape of an example, a
        longer sequence say, is one more, from which on the dimensions that differed may be of any size.
        """
        return sum(loop.traces for loop in self._all_loops())

    def __call__(self, x: Any, y: Any = None, sample_weight: Any = None) -> dict[str, tf.Tensor]:
        """Runs one batch.

        Args:
            x: (batch, ...) array or tensor, or a tuple or dict of such.
            y: targets, likewise; None if the loss needs none.
            sample_weight: (batch,), or None.

        Returns:
            Name -> scalar tensor: this batch's loss and metrics. (A metric that is no mean over examples,
            such as AUC, gives what it holds since `reset_metrics`.)

        Raises:
            TypeError: an array that is no dense array of numbers.
            ValueError: arrays of different lengths, no examples, labels that do not fit.
            NonFiniteError: a NaN or infinity, in a training step that raises on it.
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
        return self.loss_and_metrics.batch_values(self._run_one(batch))

    def run(self, iterator: Any, steps: int) -> dict[str, np.ndarray[Any, Any]]:
        """Runs up to `steps` batches without a return to Python.

        Args:
            iterator: `iter(batches)` of a `Batches`, or `iter(dataset)` of a `tf.data.Dataset`. It moves
                on by the batches that ran.
            steps: how many. Fewer run only if the data ends.

        Returns:
            Name -> float32 array of one value for each step that ran.

        Raises:
            ValueError: the iterator has no batch left, or it is no iterator; labels that do not fit.
            NonFiniteError: a NaN or infinity; the steps before it were made, and its `records` hold them.
            KeyboardInterrupt: `Ctrl-C`, when the call has returned; its `records` hold the steps that were
                made. (Not on parameter servers: nothing tells then which were.)
        """
        records = self.run_records(iterator, steps)
        if not len(records):
            raise ValueError("`iterator` has no batch left: start another with `iter(data)`.")
        return records.values()

    def run_batch(self, batch: Any, spec: Any = None) -> Records:
        """Runs one batch of tensors, `(x, y)` or `(x, y, sample_weight)`, and returns its record.

        Args:
            batch: dense tensors.
            spec: the `element_spec` of the dataset that the batch is of, if it is of one: where that leaves
                dimensions open, batches of other shapes do not trace again.

        Raises:
            TypeError: a ragged or sparse tensor.
        """
        for name, value in zip(("x", "y", "sample_weight"), keras.utils.unpack_x_y_sample_weight(batch)):
            check_dense(value, name)
        return Records(self._run_one(batch, spec).numpy()[None], self.loss_and_metrics.metrics)

    def run_records(self, iterator: Any, steps: int) -> Records:
        """Like `run`, but returns what can be averaged exactly, and nothing if no batch was left."""
        check_iterator(iterator)
        check_divides(self.strategy, iterator)
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
            raise ValueError(f"`steps` must be a whole number of at least 1, not {steps!r}.")
        rows = []
        while steps > 0:
            part = min(steps, CAPACITY)
            try:
                ran = self._run_part(iterator, part)
            except (NonFiniteError, KeyboardInterrupt) as error:
                loop = self._loop()
                if isinstance(error, NonFiniteError) or getattr(error, "rows_of", None) is loop:
                    rows.append(loop.rows)
                records = Records(np.concatenate(rows), self.loss_and_metrics.metrics) if rows else None
                error.records = records  # type: ignore[union-attr]  # not declared for an interrupt
                raise
            rows.append(ran)
            steps -= part
            if len(ran) < part:
                break
        return Records(np.concatenate(rows), self.loss_and_metrics.metrics)

    def reset_metrics(self) -> None:
        """Forgets the state of metrics that are no means over examples."""
        for metric in self.loss_and_metrics.stateful_metrics:
            metric.reset_state()

    def state(self) -> dict[str, Any]:
        """Returns every variable that a step may write and a later one reads.

        A copy of their values, assigned back later, is an exact rewind: the same batches give the same
        numbers again. What the model or a function of yours writes without holding it (the global generator
        of `keras.random` without a seed, say) is not among them.

        Returns:
            Names, which are the same in every process, to variables with `.numpy()` and `.assign()`: the
            model's as `optim.named_variables` has them, with its seed generators under their layers' names;
            `metrics/...`, of metrics with a state; `batches_done`. A `TrainStep` adds `optimizer/...`, its
            loss scale included, and, where it accumulates, `accumulated/...` for the variables that train
            now. It builds the optimizer for it if needed.

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
        return unique(
            [
                *model_state(self.model),
                *metric_state(self.model, self.loss_and_metrics.stateful_metrics),
                ("batches_done", self.batches_done),
            ]
        )

    def _run_one(self, batch: Any, spec: Any = None) -> tf.Tensor:
        labels = keras.utils.unpack_x_y_sample_weight(batch)[1]
        with scope_of(self.strategy):
            loop = self._loop()
            return self._guarded(lambda: loop.one(batch, lambda: self._check_labels(labels), spec), batch)

    def _run_part(self, iterator: Any, steps: int) -> np.ndarray[Any, Any]:

        def check() -> None:
            if isinstance(iterator, BatchIterator) and iterator.batches.reader.transform is None:
                known = self._labels_fit is not None and self._labels_fit() is iterator.batches
                if not known and self.loss_and_metrics.classes is not None:
                    self._check_labels(keras.utils.unpack_x_y_sample_weight(iterator.batches.arrays)[1])
                    self._labels_fit = weakref.ref(iterator.batches)

        with scope_of(self.strategy):
            loop = self._loop()
            return self._guarded(lambda: loop.many(iterator, steps, check), iterator)

    def _check_labels(self, labels: Any) -> None:
        classes = self.loss_and_metrics.classes
        if classes is not None and labels is not None and on_host(labels):
            check_label_values(labels, classes)

    def _guarded(self, run: Callable[[], Any], source: Any) -> Any:
        """Runs a call; a failure that TensorFlow tells in its own terms is explained.

        Args:
            run: the call.
            source: the iterator, or the one batch, that it reads.
        """
        try:
            return run()
        except tf.errors.InvalidArgumentError as error:
            explained = self._explain(error, source)
            if explained is None:
                raise
            raise explained from error

    def _explain(self, error: Exception, source: Any) -> Exception | None:
        """The error to raise instead of one of TensorFlow's; None to let that one pass."""
        return label_error(error, self.loss_and_metrics.classes)

    @abc.abstractmethod
    def _loop(self) -> Loop:
        """The loop that runs now."""

    @abc.abstractmethod
    def _all_loops(self) -> list[Loop]:
        """All loops made so far."""


def check_iterator(iterator: Any) -> None:
    """Raises ValueError if it is no iterator that a step can read."""
    if not isinstance(iterator, (BatchIterator, tf.data.Iterator)):
        raise ValueError(
            f"`iterator` is {iterator!r}: pass `iter(data)` of a `Batches` or a `tf.data.Dataset`."
        )
