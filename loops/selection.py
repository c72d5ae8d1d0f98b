"""The training step for one choice of variables."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from .batch_norm import ForwardState, frozen_batch_norms, inference_mode
from .device_loop import DeviceLoop
from .executor import runs_inline
from .objective import Objective, Scalars
from .update import Update


class Selection:
    """What a `TrainStep` runs as long as the same variables train.

    Args:
        model: a built model.
        objective: its loss and measures.
        update: over the variables that train.
        jit_compile: whether XLA compiles the forward and backward pass.
        count: see `DeviceLoop`.

    Attributes:
        update: as given.
        state: what the forward pass writes, to be put back after a step that failed.
        loop: runs the steps.
    """

    def __init__(
        self,
        model: keras.Model,
        objective: Objective,
        update: Update,
        jit_compile: bool,
        count: tf.Variable,
    ) -> None:
        self._objective = objective
        self.update = update
        self._frozen = frozen_batch_norms(model, update.variables)
        self._watched = [variable.value for variable in update.variables]
        self._forward_backward = (
            tf.function(self._gradients, jit_compile=True, autograph=False)
            if jit_compile
            else self._gradients
        )
        metrics = [m.metric for m in objective.measures if m.metric is not None]
        self.state = ForwardState(model, self._frozen, metrics)
        # With a condition in the update there are functions in the step: see `nests_calls`.
        flat = not (jit_compile or update.may_skip or update.accumulate > 1)
        self.loop = DeviceLoop(
            self._body,
            objective.width,
            flat and runs_inline(model),
            forward=lambda batch: objective(batch, training=True)[1],
            count=count,
        )

    def _body(self, batch: Any) -> Scalars:
        # The forward pass starts after the copy: whatever fails in it, the copy is of this step.
        saved = self.state.save()
        if saved:
            with tf.control_dependencies(saved):
                batch = tf.nest.map_structure(tf.identity, batch)
        with inference_mode(self._frozen):
            loss, record, gradients = self._forward_backward(batch)
        taken = self.update(gradients, loss)
        value, examples, *measures = record
        if self.update.may_skip:
            self.state.restore(when=tf.logical_not(taken))
            # A step that was skipped counts for no examples, so it is in no mean.
            examples = tf.where(taken, examples, 0.0)
        # Nothing is recorded of a step that fails its check.
        with tf.control_dependencies([taken]):
            return [tf.identity(value), examples, *measures]

    def _gradients(self, batch: Any) -> tuple[tf.Tensor, Scalars, list[Any]]:
        # Watching nothing but the chosen variables is what ends the backward pass at them.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._watched)
            loss, record = self._objective(batch, training=True)
            scaled = self.update.scale_loss(loss)
        return loss, record, tape.gradient(scaled, self._watched)
