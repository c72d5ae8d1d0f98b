"""The training step for one choice of variables."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ...optim.gradients.replicas import replica_count
from ..device.executor import runs_inline
from ..device.make_loop import make_loop
from ..distribute.sharding import Shard, on_replicas
from ..loss.loss_and_metrics import LossAndMetrics, Scalars
from ..update.nonfinite import has_nan, hides_nan, nan_of
from ..update.update import Update
from .batch_norm import check_synchronised, frozen_batch_norms, inference_mode
from .replica_seeds import replica_seeds
from .rollback import ForwardState


class CompiledStep:
    """What a `TrainStep` runs as long as the same variables train.

    Args:
        model: a built model.
        loss_and_metrics: of the model.
        update: over the variables that train.
        jit_compile: whether XLA compiles the forward and backward pass.
        count: see `DeviceLoop`.
        strategy: that the model belongs to; None for none.

    Attributes:
        update: as given.
        state: what the forward pass writes, to be put back after a step that failed.
        loop: runs the steps.
    """

    def __init__(
        self,
        model: keras.Model,
        loss_and_metrics: LossAndMetrics,
        update: Update,
        jit_compile: bool,
        count: tf.Variable,
        strategy: tf.distribute.Strategy | None,
    ) -> None:
        self._model = model
        self._loss_and_metrics = loss_and_metrics
        self._strategy = strategy
        self.update = update
        self._frozen = frozen_batch_norms(model, update.variables)
        if strategy is not None:
            check_synchronised(model, self._frozen, strategy.num_replicas_in_sync)
        self._watched = [variable.value for variable in update.variables]
        self._checks_inputs = update.on_nonfinite != "ignore" and hides_nan(model)
        self._forward_backward = (
            tf.function(self._gradients, jit_compile=True, autograph=False)
            if jit_compile
            else self._gradients
        )
        self.state = ForwardState(model, self._frozen, loss_and_metrics.stateful_metrics)
        # With a condition in the update there are functions in the step: see `nests_calls`.
        flat = not (jit_compile or update.may_skip or update.accumulate > 1)
        self.loop = make_loop(
            strategy,
            self._body,
            loss_and_metrics.width,
            flat and runs_inline(model),
            forward=lambda batch: loss_and_metrics(batch, training=True)[1],
            count=count,
        )

    def _body(self, batch: Any) -> Scalars:
        with inference_mode(self._frozen), replica_seeds(self._model, self._strategy):
            record = on_replicas(self._strategy, self._one, batch)
        return record if self._strategy is None else self._loss_and_metrics.completed(record)

    def _one(self, batch: Any, share: Shard | None) -> Scalars:
        """The step on one replica, or on the only device."""
        # The forward pass starts after the copy: whatever fails in it, the copy is of this step.
        saved = self.state.save()
        if saved:
            with tf.control_dependencies(saved):
                batch = tf.nest.map_structure(tf.identity, batch)
        try:
            record, gradients = self._forward_backward(batch, share)
        except Exception:  # of the model's or of the loss, of any type; it is raised again
            if tf.executing_eagerly():  # in a trace nothing has run yet
                self.state.restore()
            raise
        bad = [tf.cast(has_nan(batch), tf.float32)] if self.update.uses_not_overflow else []
        record, gradients, bad = self._summed(record, gradients, bad)
        value, count, *metrics = record
        # A model may fill gaps itself, and overflow as any other: its loss is finite.
        not_overflow = tf.logical_and(bad[0] > 0, ~tf.math.is_finite(value)) if bad else None
        taken = self.update.apply(gradients, value, not_overflow)
        if self.update.may_skip:
            self.state.restore(when=tf.logical_not(taken))
            # A step that was skipped counts for no examples, so it is in no mean.
            count = tf.where(taken, count, 0.0)
        # Nothing is recorded of a step that fails its check.
        with tf.control_dependencies([taken]):
            return [tf.identity(value), count, *metrics]

    def _summed(
        self, record: Scalars, gradients: list[Any], bad: list[tf.Tensor]
    ) -> tuple[Scalars, list[Any], list[tf.Tensor]]:
        """Sums what replicas have over them; averages moving statistics."""
        if replica_count() == 1:
            return record, self.update.all_reduce(gradients, [])[0], bad
        own, width = self.state.statistics(), len(record)
        gradients, (numbers, *totals) = self.update.all_reduce(gradients, [tf.stack([*record, *bad]), *own])
        self.state.set_statistics(total / replica_count() for total in totals)
        numbers = tf.unstack(numbers)
        return numbers[:width], gradients, numbers[width:]

    def _gradients(self, batch: Any, share: Shard | None) -> tuple[Scalars, list[Any]]:
        # Watching nothing but the chosen variables is what ends the backward pass at them.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._watched)
            loss, record = self._loss_and_metrics(batch, training=True, share=share)
            if self._checks_inputs:
                loss += nan_of(keras.utils.unpack_x_y_sample_weight(batch)[0])
                record[0] = loss
            scaled = self.update.scale_loss(loss)
        return record, tape.gradient(scaled, self._watched)
