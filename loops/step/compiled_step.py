"""The traced training step for one choice of trained variables."""

from __future__ import annotations

import contextlib

import keras
import tensorflow as tf

from ...optim.common.types import Batch, Gradient, Scalar
from ...optim.gradients.replicas import replica_count
from ...optim.naming.stable_names import tree_of
from ..device.batch_size import batch_size_of
from ..device.executor import suits_one_thread
from ..device.make_loop import make_loop
from ..distribute.sharding import Shard, on_replicas
from ..loss.loss_and_metrics import LossAndMetrics, Record
from ..support.layer_outputs import Outputs
from ..support.record_writes import record_writes
from ..support.variable_writes import VariableWrites
from ..update.nonfinite import has_nan, hides_nan, nan_of
from ..update.update import Update
from .batch_norm import check_synchronised, frozen_norms, inference_mode
from .meters import Meters
from .replica_seeds import replica_seeds
from .rollback import ForwardState


def xla_incompatible(model: keras.Model, strategy: tf.distribute.Strategy | None) -> str:
    """The first layer that XLA cannot compile and the reason, in words; '' if there is none."""
    for layer in [model, *(node.layer for node in tree_of(model).nodes)]:
        name = f"{type(layer).__name__} {layer.name!r}"
        if strategy is not None and getattr(layer, "synchronized", False):
            return f"{name}, which reduces over replicas: XLA compiles for one device"
        if not getattr(layer, "supports_jit", True):
            return f"{name}, which says so (an LSTM or GRU can do without cuDNN: `use_cudnn=False`)"
    return ""


class CompiledStep:
    """The step that a `TrainStep` runs while the same variables train.

    On each replica:
        copy the state that the forward pass writes
        loss, record, gradients = forward and backward pass, through XLA if asked for
        sum them over replicas; average the moving statistics
        taken = update(gradients)            # False if the step was skipped
        if not taken: restore the state

    Attributes:
        update: the update of the variables that train.
        state: copies of what the forward pass writes, to be restored after a step that raised.
        loop: runs the steps.
        meters: measure the step if it is watched, else None.
    """

    def __init__(
        self,
        model: keras.Model,
        loss_and_metrics: LossAndMetrics,
        update: Update,
        jit_compile: bool | str,
        count: tf.Variable,
        strategy: tf.distribute.Strategy | None,
        meters: Meters | None = None,
    ) -> None:
        self._model = model
        self._loss_and_metrics = loss_and_metrics
        self._strategy = strategy
        self.update = update
        self.meters = meters
        self._measures = None if meters is None else meters.measures
        self._activations = None if meters is None else meters.activations
        self._frozen = frozen_norms(model, update.variables)
        if strategy is not None:
            check_synchronised(model, self._frozen, strategy.num_replicas_in_sync)
        self._trained_values = [variable.value for variable in update.variables]
        self._checks_inputs = update.on_nonfinite != "ignore" and hides_nan(model)
        if jit_compile == "auto":
            jit_compile = bool(tf.config.list_logical_devices("GPU")) and not xla_incompatible(
                model, strategy
            )
        self._jit_compile = jit_compile
        self.state = ForwardState()
        # With a condition in the update there are functions in the step: see `nests_calls`.
        flat = not (jit_compile or update.may_skip or update.accumulate > 1)
        self.loop = make_loop(
            strategy,
            self._body,
            loss_and_metrics.width,
            flat and suits_one_thread(model),
            forward=lambda batch: loss_and_metrics(batch, training=True)[1],
            count=count,
            made_for=batch_size_of(model),
            columns=lambda: loss_and_metrics.columns,
            clock=None if meters is None else meters.clock,
        )

    def _body(self, batch: Batch) -> Record:
        with inference_mode(self._frozen), replica_seeds(self._strategy):
            record = on_replicas(self._strategy, self._replica_step, batch)
        return record if self._strategy is None else self._loss_and_metrics.completed(record)

    def _replica_step(self, batch: Batch, shard: Shard | None) -> Record:
        """The step on one replica, or on the only device."""
        if self._measures is not None:
            self._measures.reset()
        with record_writes(everything=True) as writes:
            forward_backward = self._forward_backward
            if self._jit_compile:
                # A new function for each trace: `record_writes` finds its writes while it is traced.
                forward_backward = tf.function(self._forward_backward, jit_compile=True, autograph=False)
            try:
                record, gradients, finite, sums = forward_backward(batch, shard)
            except Exception:  # the user's model or loss may raise anything
                if tf.executing_eagerly():  # while tracing, nothing has run yet
                    writes.undo_unless(False)
                raise
        self.state.backup(writes, batch)
        bad = [tf.cast(has_nan(batch), tf.float32)] if self.update.uses_not_overflow else []
        record, gradients, bad, sums = self._sum_over_replicas(record, gradients, bad, sums, writes)
        if self._activations is not None:
            self._activations.store(sums)
        value, count, *metrics = record
        # NaN in the batch alone proves nothing: a model that replaces NaN itself has a finite loss.
        not_overflow = tf.logical_and(bad[0] > 0, ~tf.math.is_finite(value)) if bad else None
        with tf.name_scope("update"):  # a name for readers of the graph
            taken = self.update.apply(gradients, value, not_overflow, finite, count, self._measures)
        if self.update.may_skip:
            writes.undo_unless(taken)
            # -1 marks a skipped step, which is in no mean; 0 is a batch whose values are all masked.
            count = tf.where(taken, count, -1.0)
        writes.restore_untrained_weights(self.update.variables)
        # The record depends on the check: a step that fails records nothing.
        with tf.control_dependencies([taken]):
            return [tf.identity(value), count, *metrics]

    def _sum_over_replicas(
        self,
        record: Record,
        gradients: list[Gradient],
        bad: list[tf.Tensor],
        sums: list[tf.Tensor],
        writes: VariableWrites,
    ) -> tuple[Record, list[Gradient], list[tf.Tensor], list[tf.Tensor]]:
        """Sums over replicas in one all-reduce; averages moving statistics."""
        if replica_count() == 1:
            return record, self.update.all_reduce(gradients, [])[0], bad, sums
        statistics, width = writes.statistics(), len(record)
        others = [tf.stack([*record, *bad]), *sums, *map(tf.convert_to_tensor, statistics)]
        gradients, (numbers, *totals) = self.update.all_reduce(gradients, others)
        for variable, total in zip(statistics, totals[len(sums) :]):
            variable.assign(total / replica_count())
        numbers = tf.unstack(numbers)
        return numbers[:width], gradients, numbers[width:], totals[: len(sums)]

    def _forward_backward(
        self, batch: Batch, shard: Shard | None
    ) -> tuple[Record, list[Gradient], Scalar | None, list[tf.Tensor]]:
        outputs_context: contextlib.AbstractContextManager[Outputs] = contextlib.nullcontext({})
        if self._activations is not None:
            outputs_context = self._activations.record_outputs()
        # The tape watches the trained variables alone, so the backward pass ends at them.
        with outputs_context as outputs, tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._trained_values)
            accumulated = self.update.accumulate > 1
            loss, record = self._loss_and_metrics(batch, True, shard, accumulated)
            if self._checks_inputs:
                loss += nan_of(keras.utils.unpack_x_y_sample_weight(batch)[0])
                record[0] = loss
            scaled = self.update.scale_loss(loss)
        gradients = tape.gradient(scaled, self._trained_values)
        # XLA fuses the check into the kernels that compute the gradients. Separately it is a kernel for each
        # variable, whose launch takes a GPU longer than the sum: LeNet-5 on an H200 spent a quarter of its
        # step there. On replicas, the sum over replicas must be finite, which is not known yet.
        checks = self._jit_compile and replica_count() == 1 and self.update.on_nonfinite != "ignore"
        finite = self.update.finite(gradients, loss) if checks else None
        return record, gradients, finite, [] if self._activations is None else self._activations.sums(outputs)
