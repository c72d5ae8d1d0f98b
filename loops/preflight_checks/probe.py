"""A forward and backward pass, run eagerly: the outputs of each layer and the gradient of each variable."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ...optim import named_variables
from ...optim.common.types import Array, Batch, Gradient
from ...optim.naming.stable_names import tree_of
from ..distribute.scope import scope_of
from ..step.batch_norm import frozen_norms, inference_mode
from ..step.train_step import TrainStep
from ..support.keras_private import undivided_losses
from ..support.method_hooks import Hooks, Method
from ..support.tensorflow_private import eager_replicas, scratch_graph
from .sample import elements_per_example, examples_of, first_examples

# Limits of a pass, which keep it to about a second.
_MAX_ELEMENTS = 400_000
_MAX_EXAMPLES = 256
_PASS_THROUGH = "Identity IdentityN Cast Reshape Squeeze ExpandDims EnsureShape StopGradient".split()


class FirstLayerInput(NamedTuple):
    """The range of the values that reach the first layer with a kernel."""

    layer: str  # its path
    lowest: float
    highest: float


class Probe:
    """Outputs, losses and gradients of a model for some batches in training mode; no weight is updated."""

    def __init__(self, step: TrainStep, batches: Sequence[Batch], whole: bool) -> None:
        self.losses: list[float] = []  # of each batch, without the penalties in `model.losses`
        self.batches: list[Batch] = []  # those that ran, cut to the examples that were used
        self.outputs: list[Any] = []  # of the model for each batch: a tensor or a nest
        # By name, the sum of absolute values over the batches; None if the loss does not depend on it.
        self.gradients: dict[str, float | None] = {}
        # Path of a layer with an activation -> for each unit, whether it was ever not zero: bool, (units,).
        # Only layers that train, or that follow one that does: frozen pretrained layers may have dead units.
        self.active_units: dict[str, Array] = {}
        # None if the first layer with weights is an embedding, or none ran.
        self.first_layer_input: FirstLayerInput | None = None
        self.error: Exception | None = None  # the first error that a batch raised
        self._first_layer_reached = self._trains = False
        self._trained = {id(variable) for variable in step.variables}
        self._step = step
        self._paths = {id(node.layer): node.path for node in tree_of(step.model).nodes}
        self._names = {id(variable): name for name, variable in named_variables(step.model).items()}
        left = min(_MAX_EXAMPLES, max(8, _MAX_ELEMENTS // max(1, elements_per_example(batches[0]))))
        for batch in batches:
            if not whole:
                batch = first_examples(batch, left)
            left -= examples_of(batch)
            self._run_batch(batch)
            if left <= 0 or self.error is not None:
                break

    def _run_batch(self, batch: Batch) -> None:
        self.batches.append(batch)
        strategy = self._step.strategy
        frozen = frozen_norms(self._step.model, self._step.variables)
        with scope_of(strategy), inference_mode(frozen), undivided_losses():
            try:
                with Hooks(lambda: [(keras.layers.Layer, "__call__", self._observed_call)]).installed():
                    # Every replica runs the batch, as layers may want a replica context; the first records.
                    if strategy is None:
                        self._forward_backward(batch)
                    else:
                        with eager_replicas():
                            strategy.run(self._forward_backward, args=(batch,))
            except (ValueError, TypeError, ArithmeticError, tf.errors.InvalidArgumentError) as error:
                self.error = error

    def _forward_backward(self, batch: Batch) -> None:
        variables = self._step.variables
        watched = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            loss, _ = self._step.loss_and_metrics(batch, True)
            # With the loss scale: without it, half precision rounds small gradients to zero.
            scaled = getattr(self._step.optimizer, "scale_loss", lambda value: value)(loss)
        gradients = tape.gradient(scaled, watched)
        if _on_first_replica():
            self.losses.append(float(loss) - sum(float(penalty) for penalty in self._step.model.losses))
            for variable, gradient in zip(variables, gradients):
                name = self._names[id(variable)]
                before = self.gradients.get(name)
                self.gradients[name] = before if gradient is None else (before or 0.0) + _magnitude(gradient)

    def _observed_call(self, method: Method) -> Method:
        def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
            inputs = args[0] if args else None
            if not self._first_layer_reached and id(layer) in self._paths and _on_first_replica():
                self._record_first_layer_input(layer, inputs)
            outputs = method(layer, *args, **kwargs)
            if _on_first_replica():
                if layer is self._step.model:
                    self.outputs[len(self.batches) - 1 :] = [outputs]
                elif id(layer) in self._paths and not isinstance(layer, keras.Model):
                    if layer.weights:
                        self._trains = any(id(variable) in self._trained for variable in layer.weights)
                    if self._trains and _has_activation(layer) and hasattr(outputs, "numpy"):
                        self._record_active_units(self._paths[id(layer)], layer, outputs)
            return outputs

        return call

    def _record_first_layer_input(self, layer: keras.layers.Layer, inputs: Any) -> None:
        has_kernel = hasattr(layer, "kernel")
        self._first_layer_reached = has_kernel or hasattr(layer, "embeddings")
        if has_kernel and hasattr(inputs, "numpy") and (inputs.dtype.is_floating or inputs.dtype.is_integer):
            values = tf.cast(inputs, tf.float32)
            lowest, highest = float(tf.reduce_min(values)), float(tf.reduce_max(values))
            self.first_layer_input = FirstLayerInput(self._paths[id(layer)], lowest, highest)

    def _record_active_units(self, path: str, layer: keras.layers.Layer, outputs: tf.Tensor) -> None:
        rank = outputs.shape.rank
        if not outputs.dtype.is_floating or not rank or rank < 2:
            return
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1
        others = [number for number in range(rank) if number != axis]
        alive = tf.reduce_any(outputs != 0, others).numpy()
        if path in self.active_units and self.active_units[path].shape == alive.shape:
            alive = alive | self.active_units[path]
        self.active_units[path] = alive


def loss_of(step: TrainStep, batch: Batch) -> float:
    """The loss of a batch as a `Probe` computes it, without `model.losses`; NaN if the pass raises."""
    losses = Probe(step, [batch], whole=True).losses
    return losses[0] if losses else float("nan")


def last_operation(step: TrainStep, batch: Batch) -> str:
    """Type of a model's last operation, such as "Softmax" or "Sigmoid"; '' where it has no single one."""
    x = keras.utils.unpack_x_y_sample_weight(batch)[0]
    with contextlib.suppress(
        Exception
    ):  # a custom model may raise anything; the checks then judge by the values alone
        with scope_of(step.strategy), scratch_graph():
            operation = step.model(x, training=False).op
            while operation.type in _PASS_THROUGH:
                operation = operation.inputs[0].op
            return str(operation.type)
    return ""


def _has_activation(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, (keras.layers.ReLU, keras.layers.Activation)):
        return True
    activation = getattr(layer, "activation", None)
    return callable(activation) and activation is not keras.activations.linear


def _on_first_replica() -> bool:
    context = tf.distribute.get_replica_context()
    return context is None or context.replica_id_in_sync_group in (0, None)


def _magnitude(gradient: Gradient) -> float:
    values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
    total = float(tf.reduce_sum(tf.abs(tf.cast(values, tf.float32))))
    return total if np.isfinite(total) else np.inf
