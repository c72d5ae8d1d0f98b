"""A pass forward and back, operation by operation: what each layer gave, which gradients there are."""

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
from ..support.tensorflow_private import eager_replicas, never_run
from .sample import elements_in, examples_of, first_of

# What a pass may hold, so that it takes a second or so.
_MOST_ELEMENTS = 400_000
_MOST_EXAMPLES = 256
_PASSES_ON = "Identity IdentityN Cast Reshape Squeeze ExpandDims EnsureShape StopGradient".split()


class Entry(NamedTuple):
    """What reaches the first layer with a kernel: the lowest and the highest value."""

    layer: str  # its path
    lowest: float
    highest: float


class Probe:
    """What some batches made of a model in training mode; no weight is updated."""

    def __init__(self, step: TrainStep, batches: Sequence[Batch], whole: bool) -> None:
        self.losses: list[float] = []  # of each batch, without what `model.losses` adds
        self.batches: list[Batch] = []  # those that ran, as far as they were passed
        self.outputs: list[Any] = []  # what the model gave for each, a tensor or a nest
        # By name, the sum of magnitudes over the batches; None if no way leads from the loss to the variable.
        self.gradients: dict[str, float | None] = {}
        # Path of a layer with an activation -> for each of its units, whether it was ever not zero; of layers
        # that train, or follow one that does: how pretrained ones share their work is theirs.
        self.alive: dict[str, Array] = {}
        self.entry: Entry | None = None  # None if the first layer with weights looks up inputs, or none ran
        self.error: Exception | None = None  # the first error that a batch raised
        self._entered = self._trains = False
        self._trained = {id(variable) for variable in step.variables}
        self._step = step
        self._paths = {id(node.layer): node.path for node in tree_of(step.model).nodes}
        self._names = {id(variable): name for name, variable in named_variables(step.model).items()}
        left = min(_MOST_EXAMPLES, max(8, _MOST_ELEMENTS // max(1, elements_in(batches[0]))))
        for batch in batches:
            if not whole:
                batch = first_of(batch, left)
            left -= examples_of(batch)
            self._pass(batch)
            if left <= 0 or self.error is not None:
                break

    def _pass(self, batch: Batch) -> None:
        self.batches.append(batch)
        strategy = self._step.strategy
        frozen = frozen_norms(self._step.model, self._step.variables)
        with scope_of(strategy), inference_mode(frozen), undivided_losses():
            try:
                with Hooks(lambda: [(keras.layers.Layer, "__call__", self._watched)]).installed():
                    # Each replica does the same, as layers may want to be on one; the first one tells.
                    if strategy is None:
                        self._one(batch)
                    else:
                        with eager_replicas():
                            strategy.run(self._one, args=(batch,))
            except (ValueError, TypeError, ArithmeticError, tf.errors.InvalidArgumentError) as error:
                self.error = error

    def _one(self, batch: Batch) -> None:
        variables = self._step.variables
        watched = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            loss, _ = self._step.loss_and_metrics(batch, True)
            # With the loss scale: half precision would take small ones for zero.
            scaled = getattr(self._step.optimizer, "scale_loss", lambda value: value)(loss)
        gradients = tape.gradient(scaled, watched)
        if _on_first_replica():
            self.losses.append(float(loss) - sum(float(penalty) for penalty in self._step.model.losses))
            for variable, gradient in zip(variables, gradients):
                name = self._names[id(variable)]
                before = self.gradients.get(name)
                self.gradients[name] = before if gradient is None else (before or 0.0) + _magnitude(gradient)

    def _watched(self, method: Method) -> Method:
        def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
            inputs = args[0] if args else None
            if not self._entered and id(layer) in self._paths and _on_first_replica():
                self._enter(layer, inputs)
            outputs = method(layer, *args, **kwargs)
            if _on_first_replica():
                if layer is self._step.model:
                    self.outputs[len(self.batches) - 1 :] = [outputs]
                elif id(layer) in self._paths and not isinstance(layer, keras.Model):
                    if layer.weights:
                        self._trains = any(id(variable) in self._trained for variable in layer.weights)
                    if self._trains and _activates(layer) and hasattr(outputs, "numpy"):
                        self._note_units(self._paths[id(layer)], layer, outputs)
            return outputs

        return call

    def _enter(self, layer: keras.layers.Layer, inputs: Any) -> None:
        has_kernel = hasattr(layer, "kernel")
        self._entered = has_kernel or hasattr(layer, "embeddings")
        if has_kernel and hasattr(inputs, "numpy") and (inputs.dtype.is_floating or inputs.dtype.is_integer):
            values = tf.cast(inputs, tf.float32)
            lowest, highest = float(tf.reduce_min(values)), float(tf.reduce_max(values))
            self.entry = Entry(self._paths[id(layer)], lowest, highest)

    def _note_units(self, path: str, layer: keras.layers.Layer, outputs: tf.Tensor) -> None:
        rank = outputs.shape.rank
        if not outputs.dtype.is_floating or not rank or rank < 2:
            return
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1
        others = [number for number in range(rank) if number != axis]
        alive = tf.reduce_any(outputs != 0, others).numpy()
        if path in self.alive and self.alive[path].shape == alive.shape:
            alive = alive | self.alive[path]
        self.alive[path] = alive


def loss_of(step: TrainStep, batch: Batch) -> float:
    """The loss of a batch by a `Probe`, without what `model.losses` adds; NaN if it raises."""
    losses = Probe(step, [batch], whole=True).losses
    return losses[0] if losses else float("nan")


def last_operation(step: TrainStep, batch: Batch) -> str:
    """The operation that a model ends in, such as "Softmax" or "Sigmoid"; '' where it has no single one."""
    x = keras.utils.unpack_x_y_sample_weight(batch)[0]
    with contextlib.suppress(Exception):  # a model of one's own may do anything; then only the values tell
        with scope_of(step.strategy), never_run():
            found = step.model(x, training=False).op
            while found.type in _PASSES_ON:
                found = found.inputs[0].op
            return str(found.type)
    return ""


def _activates(layer: keras.layers.Layer) -> bool:
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
