"""One training step, and many of them in a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ..optim import named_variables, select
from .base_step import BaseStep
from .batch_norm import ForwardState, frozen_batch_norms, inference_mode
from .batches import BatchIterator
from .device_loop import DeviceLoop
from .executor import runs_inline
from .nonfinite import NonFiniteError, nonfinite_inputs
from .objective import Loss, Scalars
from .suggest import did_you_mean
from .update import Update, check_update_options


class TrainStep(BaseStep):
    """Trains chosen variables of a model, a batch at a time or many batches in one call on the device.

    Gradients are computed for the chosen variables alone, so the backward pass stops where they end. A
    BatchNorm whose variables are not chosen runs in inference mode and keeps its statistics. A step that
    finds a NaN, an infinity or a label that does not fit leaves the weights, and what the forward pass
    writes, as they were before it.

    Nothing is built or changed by the constructor: the optimizer is built on first use, over all trainable
    variables of the model, so another choice later finds its state in place.

    Args:
        model: a built `keras.Model`.
        loss: a Keras loss, the name of one, or a function of `(model, batch)` that returns a scalar loss or
            `(loss, predictions)`; `batch` is `(x, y)` or `(x, y, sample_weight)`. What `model.losses` holds
            is added.
        optimizer: a Keras optimizer or the name of one. For a mixed_float16 model it is wrapped in a
            `keras.optimizers.LossScaleOptimizer`, as `compile` does.
        variables: what trains: variables, or filters as `optim.select` takes them; None for all.
        metrics: a list of names, functions of `(y, predictions)` and `keras.metrics.Metric` objects. Sample
            weights weigh them as they weigh the loss (as `compile` does for its `weighted_metrics`).
        clip_norm: largest global norm of the gradients of what trains; None for no clipping.
        accumulate: batches that make one update; their gradients are averaged.
        jit_compile: whether XLA compiles the forward and backward pass; "auto" for on a GPU alone, as XLA's
            convolutions are several times slower than TensorFlow's on a CPU.
        on_nonfinite: "raise" a `NonFiniteError`, "skip" the step, or "ignore" without looking.

    Attributes:
        model, optimizer, loss, metrics: as given; `optimizer` after wrapping.
        variables: what trains now, in the model's order.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a model that is not built, an unknown name, an option out of range.
        SelectionError: a filter that matches nothing.

    Example:
        >>> import keras, numpy as np
        >>> from gradloop import loops
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
        >>> step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1), variables="head")
        >>> x, y = np.ones((8, 3), "float32"), np.zeros((8, 2), "float32")
        >>> losses = [float(step(x, y)["loss"]) for _ in range(20)]
        >>> losses[-1] < 0.01 * losses[0]
        True
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        optimizer: keras.optimizers.Optimizer | str,
        *,
        variables: Any = None,
        metrics: Sequence[Any] = (),
        clip_norm: float | None = None,
        accumulate: int = 1,
        jit_compile: bool | str = "auto",
        on_nonfinite: str = "raise",
    ) -> None:
        super().__init__(model, loss, metrics)
        check_update_options(clip_norm, accumulate, on_nonfinite)
        if jit_compile not in (True, False, "auto"):
            raise ValueError(f"`jit_compile` must be True, False or 'auto', not {jit_compile!r}.")
        self.optimizer = _resolve_optimizer(optimizer, model)
        self.accumulate = accumulate
        self._update_options: dict[str, Any] = {
            "clip_norm": clip_norm,
            "accumulate": accumulate,
            "on_nonfinite": on_nonfinite,
        }
        self._jit_compile = jit_compile
        self._selections: dict[tuple[int, ...], _Selection] = {}
        self.variables = self._choose(variables)

    def train_only(self, *filters: Any) -> None:
        """Changes what trains, from the next step on; the optimizer keeps all its state.

        The step is traced once for a choice that it has not seen. Gradients that were accumulated but not
        applied yet are dropped: they belong to the choice before.

        Args:
            filters: as `optim.select` takes them, or variables; `"*"` for all.

        Raises:
            SelectionError: a filter that matches nothing.
            ValueError: a variable that is not one of the model's trainable ones.
        """
        self.variables = self._choose(list(filters))
        for selection in self._selections.values():
            selection.update.forget()

    def _choose(self, variables: Any) -> list[Any]:
        if variables is None:
            chosen = list(self.model.trainable_variables)
            if not chosen:
                raise ValueError(
                    "`model` has no trainable variables: set `trainable = True` on the layers to train."
                )
            return chosen
        items = list(variables) if isinstance(variables, (list, tuple)) else [variables]
        if not items or not all(isinstance(item, keras.Variable) for item in items):
            return select(self.model, *items)
        trainable = {id(variable) for variable in self.model.trainable_variables}
        for item in items:
            if id(item) not in trainable:
                raise ValueError(
                    f"`variables` holds {item.path!r}, which is not a trainable variable of the model: it "
                    "belongs to another one, or its layer has `trainable=False`."
                )
        ids = {id(item) for item in items}
        return [variable for variable in self.model.trainable_variables if id(variable) in ids]

    def _loop(self) -> DeviceLoop:
        return self._selection().loop

    def _all_loops(self) -> list[DeviceLoop]:
        return [selection.loop for selection in self._selections.values()]

    def _selection(self) -> _Selection:
        key = tuple(id(variable) for variable in self.variables)
        if key not in self._selections:
            if not self.optimizer.built:
                self.optimizer.build(self.model.trainable_variables)
            names = {id(v): name for name, v in named_variables(self.model).items()}
            update = Update(
                self.optimizer, {names[id(v)]: v for v in self.variables}, **self._update_options
            )
            self._selections[key] = _Selection(self, update, self._uses_jit())
        return self._selections[key]

    def _uses_jit(self) -> bool:
        if self._jit_compile != "auto":
            return bool(self._jit_compile)
        return bool(tf.config.list_logical_devices("GPU")) and _supports_jit(self.model)

    def _explain(self, error: Exception, source: Any) -> Exception | None:
        # Everything that the forward pass wrote in the step that failed is put back.
        selection = self._selection()
        explained = super()._explain(error, source)
        if explained is None:
            step = int(self.optimizer.iterations.numpy()) + 1
            explained = NonFiniteError.from_tensorflow(error, step, lambda: _input_hint(source))
        if explained is not None:
            selection.state.restore()
        return explained


class _Selection:
    """The step for one choice of variables."""

    def __init__(self, step: TrainStep, update: Update, jit_compile: bool) -> None:
        self._objective = step.objective
        self.update = update
        self._frozen = frozen_batch_norms(step.model, update.variables)
        self._watched = [variable.value for variable in update.variables]
        self._forward_backward = (
            tf.function(self._gradients, jit_compile=True, autograph=False)
            if jit_compile
            else self._gradients
        )
        metrics = [m.metric for m in step.objective.measures if m.metric is not None]
        self.state = ForwardState(step.model, self._frozen, metrics)
        # With a condition in the update there are functions in the step: see `nests_calls`.
        flat = not (jit_compile or update.may_skip or update.accumulate > 1)
        self.loop = DeviceLoop(self._body, step.objective.width, flat and runs_inline(step.model))

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


def _resolve_optimizer(optimizer: Any, model: keras.Model) -> keras.optimizers.Optimizer:
    if isinstance(optimizer, str):
        try:
            optimizer = keras.optimizers.get(optimizer)
        except ValueError:
            names = [name.lower() for name in dir(keras.optimizers) if name[0].isupper()]
            raise ValueError(
                f"`optimizer` {optimizer!r} is no Keras optimizer.{did_you_mean(optimizer, names)}"
            ) from None
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(f"`optimizer` must be a Keras optimizer or its name, not {optimizer!r}.")
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if model.dtype_policy.compute_dtype == "float16" and not scaled:
        return keras.optimizers.LossScaleOptimizer(optimizer, name=optimizer.name)
    return optimizer


def _supports_jit(model: keras.Model) -> bool:
    layers = [model, *model.layers]
    return all(getattr(layer, "supports_jit", True) for layer in layers)


def _input_hint(source: Any) -> str:
    """Says so if the batch that failed held NaN or infinity, where it can be read again."""
    if isinstance(source, tf.data.Iterator):
        return ""
    if isinstance(source, BatchIterator):
        source = next(source.batches.iterator(source.epoch, source.position))
    return nonfinite_inputs(source)
