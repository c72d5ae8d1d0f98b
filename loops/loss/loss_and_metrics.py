"""From a batch to its loss and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import keras
import tensorflow as tf

from ...optim.common.types import Batch, Scalar, Tensors
from ...optim.gradients.replicas import replica_count
from ..distribute.sharding import Shard, examples_in
from ..support.scalars import Columns, collect_scalars, recording_disabled
from .custom_loss import CustomLoss, LossFunction
from .keras_loss import example_losses, loss_value, mean_of_class_indices, resolve_loss
from .labels import check_label_spec, check_label_values, check_target_shape, on_host, takes_class_indices
from .layer_metrics import detect_updates, resolve_layer_metrics
from .mean_loss import SUM, StepLoss
from .metrics import Metric, StepMetric, resolve_metrics
from .outputs import check_one_output
from .recorded import parts_of, whole_of
from .reduction import LossValue

Loss: TypeAlias = keras.losses.Loss | str | LossFunction
# The loss, what it was divided by, a sum and a weight for each metric, and what was recorded: float32.
Record: TypeAlias = list[Scalar]


class LossAndMetrics:
    """The loss and the metrics of a model on one batch.

        loss, predictions = the user's function, or the Keras loss of model(x)
        loss = this replica's part of the mean over all of them    # on several replicas
        loss += the model's regularisation
        record = loss, what it was divided by, a sum and a weight for each metric, and what `record` was given

    Attributes:
        metrics: a `StepMetric` for each, then one for each that a layer holds.
        takes_class_indices: whether `y` holds class indices.
        classes: how many classes the labels may name, once a batch was traced; None where labels are no
            class indices.
        columns: of what the user's code recorded on the batch that was run or traced last.
        reductions: by name, of all that it recorded so far.

    Raises:
        ValueError: an unknown loss or metric.
        TypeError: a loss or metric of another type.
    """

    def __init__(self, model: keras.Model, loss: Loss, metrics: Sequence[Metric] = ()) -> None:
        name = getattr(loss, "__name__", "")
        if callable(loss) and getattr(keras.losses, name, None) is loss:
            if isinstance(loss, type):
                raise TypeError(f"`loss` is the class {name}: call it, `{name}()`.")
            loss = name  # one of Keras' functions of (y, predictions)
        self.model = model
        self._own: CustomLoss | None = None
        self._loss: keras.losses.Loss | None = None
        self.takes_class_indices = False
        if isinstance(loss, (str, keras.losses.Loss)):
            self._loss = resolve_loss(loss)
            self.takes_class_indices = takes_class_indices(self._loss)
        elif callable(loss):
            self._own = CustomLoss(loss)
        else:
            raise TypeError(
                f"`loss` must be a Keras loss, its name or a function of (model, batch), not {loss!r}."
            )
        own = resolve_metrics(metrics)
        self._held = resolve_layer_metrics(model, own)
        self.metrics: list[StepMetric] = [*own, *self._held]
        self.classes: int | None = None
        self.columns: Columns = ()
        self._names = ["loss", *(metric.name for metric in self.metrics)]
        self.reductions: dict[str, str] = {}

    @property
    def is_own_function(self) -> bool:
        """Whether the loss is a user's function of `(model, batch)`."""
        return self._own is not None

    @property
    def keras_loss(self) -> keras.losses.Loss | None:
        """The Keras loss; None for a user's function."""
        return self._loss

    @property
    def width(self) -> int:
        """How many scalars a record holds, apart from what the user's code recorded."""
        return 2 + 2 * len(self.metrics)

    @property
    def stateful_metrics(self) -> list[keras.metrics.Metric]:
        """The Keras metrics that have a state of their own."""
        return [metric.stateful for metric in self.metrics if metric.stateful is not None]

    def check_evaluates(self) -> None:
        """Raises ValueError if the loss cannot be told that it is not training."""
        if self._own is not None:
            self._own.check_evaluates()

    def check_accumulates(self) -> None:
        """Raises ValueError if the loss is no mean, of which several batches have one together."""
        if getattr(self._loss, "reduction", None) == "sum":
            raise ValueError(SUM)

    def __call__(
        self, batch: Batch, training: bool, shard: Shard | None = None, accumulated: bool = False
    ) -> tuple[Scalar, Record]:
        """Runs the model on a batch, inside a tape or not.

        Args:
            batch: what `keras.utils.unpack_x_y_sample_weight` takes; on replicas, the part of one.
            training: the mode of dropout and BatchNorm.
            shard: on several replicas, what the examples of this one count.
            accumulated: whether the batch is one of several that make an update together.

        Returns:
            The loss, regularisation included, and the record. Summed over replicas, both are those of the
            whole batch.

        Raises:
            ValueError: a batch that does not fit the loss or a metric.
            BatchDependentError: a part of a batch, for a loss or metric that takes its examples together.
        """
        with collect_scalars(self._names, self.reductions) as recorded:
            loss, record = self._computed(batch, training, shard, accumulated)
        self.columns = recorded.columns
        if shard is None or not self.columns:
            return loss, [*record, *recorded.values]
        counted = (
            tf.cast(examples_in(keras.utils.unpack_x_y_sample_weight(batch)[0]), tf.float32) * shard.weight
        )
        return loss, [*record, *parts_of(recorded, counted / shard.examples, shard.weight)]

    def _computed(
        self, batch: Batch, training: bool, shard: Shard | None, accumulated: bool
    ) -> tuple[Scalar, Record]:
        """The loss and the record, without what the user's code records."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        # Labels are quicker to count than examples.
        flat = self.takes_class_indices and isinstance(y, tf.Tensor) and y.shape.rank == 1
        examples = tf.cast(examples_in(y if flat else x), tf.float32)
        parts = "`accumulate`" if accumulated else "" if shard is None else f"{replica_count()} replicas"
        if self._own is not None:
            step = StepLoss(examples, shard, parts, [])
            with detect_updates(self._held):
                value, predictions = self._own(self.model, batch, training, step)
            found = LossValue(value, step.divisor(accumulated))
        else:
            if y is None:
                raise ValueError("The batch has no `y`, which this loss needs: pass `(x, y)`.")
            with detect_updates(self._held):
                predictions = self.model(x, training=training)
            found = self._keras_value(y, predictions, weight, examples, parts)
        penalties = [tf.cast(penalty, tf.float32) for penalty in self.model.losses]
        if shard is not None:
            counted = examples * shard.weight
            found = found.of_replica(counted, shard)
            penalties = [penalty * (counted / shard.examples) for penalty in penalties]
        loss = tf.cast(found.value, tf.float32)
        if penalties:
            loss = tf.add_n([loss, *penalties])
        if len(self.metrics) > len(self._held) and predictions is None:
            raise ValueError(
                "`metrics` need predictions, and the `loss` function returns the loss alone: return "
                "`(loss, predictions)`."
            )
        record = [loss, found.divisor]
        for metric in self.metrics:
            record.extend(metric(y, predictions, weight, examples, shard))
        return loss, record

    def predicted(self, batch: Batch) -> tuple[Tensors, tf.Tensor | None]:
        """The predictions in inference mode and, without weights, each example's loss: float32, (batch,).

        None for either where the loss does not give it.
        """
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if self._own is not None:
            step = StepLoss(tf.cast(examples_in(x), tf.float32), None, "", [])
            return self._own(self.model, batch, False, step)[1], None
        predictions = self.model(x, training=False)
        return predictions, None if y is None else example_losses(self._loss, y, predictions)

    def _keras_value(
        self, y: Tensors, predictions: Tensors, weight: Tensors, examples: Scalar, parts: str
    ) -> LossValue:
        """The value of the Keras loss, with the checks of labels and targets."""
        check_one_output("loss", self._loss, y, predictions)
        check_target_shape(self._loss, y, predictions)
        found = None
        if self.takes_class_indices:
            check_label_spec(y, predictions)
            self.classes = predictions.shape[-1]
            if tf.executing_eagerly() and on_host(y):
                check_label_values(y, predictions.shape[-1])
            if weight is None:
                found = mean_of_class_indices(self._loss, y, predictions, examples)
        return found or loss_value(self._loss, y, predictions, weight, examples, parts)

    def completed(self, record: Record) -> Record:
        """The record of a whole batch, summed over replicas, with the values of metrics that have a state."""
        record, recorded = list(record[: self.width]), record[self.width :]
        for column, metric in enumerate(self.metrics):
            if metric.stateful is not None:
                with recording_disabled():  # it was on the replicas
                    record[2 + 2 * column : 4 + 2 * column] = metric.result()
        return [*record, *whole_of(self.columns, recorded)]

    def batch_values(self, record: tf.Tensor, columns: Columns = ()) -> dict[str, Scalar]:
        """Returns name -> scalar of one record, a float32 vector, that ends in `columns`."""
        scalars = tf.unstack(record)
        values = {"loss": scalars[0]}
        for column, metric in enumerate(self.metrics):
            if not metric.shown:
                continue
            total, weight = scalars[2 + 2 * column : 4 + 2 * column]
            values[metric.name] = tf.math.divide_no_nan(total, weight)
        recorded = {column.name: value for column, value in zip(columns, scalars[self.width :])}
        return values | recorded
