"""`TrainStep`: one training step, or many in one call on the device."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ...optim import FilterLike, named_variables
from ...optim.common.optimizers import inner_optimizer
from ...optim.filters.selection import VariablesOrFilters
from ..distribute.scope import check_scope, scope_of
from ..loss.loss_and_metrics import Loss
from ..loss.metrics import Metric
from ..update.checks import check_update_options
from ..update.restore import RATE_CUTS, RateCuts, Restore
from ..update.spikes import LAST_LOSSES, LastLosses, Spike
from ..update.step_update import StepUpdate
from .chosen_variables import ChosenVariables
from .compiled_step import CompiledStep, xla_incompatible
from .compiled_steps import CompiledSteps
from .end_of_data import EndOfData
from .meters import MeasureRequest, Meters
from .named_state import optimizer_state, unique
from .overridden_methods import TRAINING
from .resolve_optimizer import resolve_optimizer
from .saved_optimizer import compile_for_saving, warn_of_other_optimizer
from .training_calls import TrainingCalls
from .watcher import Watcher


class TrainStep(TrainingCalls):
    """Trains chosen variables of a model, a batch at a time or many batches in one call on the device.

        for each batch:
            gradients of the loss, for the chosen variables    # `CompiledStep`
            sum over replicas, check, clip, apply              # `Update`
            record the loss and metrics                        # `LossAndMetrics`

    Gradients are computed for the chosen variables alone, so the backward pass stops where they end. A
    BatchNorm whose variables are not chosen runs in inference mode. A step that finds a NaN, an infinity or
    a label that does not fit leaves the weights, and the state that the forward pass writes, unchanged.

    The constructor builds and changes nothing. The optimizer is built on first use, over all trainable
    variables of the model, so its state exists if you choose other variables later. If you have built it over
    fewer (`optimizer.build(optim.select(model, "head"))`), it needs no memory for the others, and cannot
    train them. The first step compiles a model that is not compiled, so `model.save` writes the optimizer as
    after `fit`, and `TrainStep(loaded, loss, loaded.optimizer)` continues from there. A model that you have
    compiled stays as it is, with a warning if it was compiled with another optimizer.

    Args:
        model: a built `keras.Model`.
        loss: a Keras loss, the name of one, or a function of `(model, batch)` that returns a scalar loss or
            `(loss, predictions)`; `batch` is `(x,)`, `(x, y)` or `(x, y, sample_weight)`. What `model.losses`
            holds (L1, L2, `add_loss`) is added here: a function that also adds it, itself or by passing the
            model to `mean_loss`, counts it twice. A model with its own `train_step` or `compute_loss` needs
            such a function instead. On replicas, and with `accumulate`, the weight of each part of the batch
            is the divisor of its mean loss: number of examples or unmasked values, or sum of sample weights.
            For a function, it is the number of examples, or the divisor of its only `mean_loss` or Keras
            loss. (A mean that you compute yourself over some examples, as with `tf.boolean_mask`, counts by
            examples too, so it becomes a mean of means; `mean_loss(losses, mask=mask)` does not.) A loss that
            needs all examples of a batch together is refused there.
        optimizer: a Keras optimizer or the name of one. For a mixed_float16 model it is wrapped in a
            `keras.optimizers.LossScaleOptimizer`, as `compile` does.
        variables: the variables to train, or filters as `optim.select` takes them; None for all. Variables
            frozen by a `GroupedOptimizer`'s plan or a layer's `trainable = False` do not train. Freezing and
            unfreezing, of either kind, acts from the next step on, with one trace for a new choice. (Build
            the optimizer over all variables that you will unfreeze.)
        metrics: a list of names, functions of `(y, predictions)` and `keras.metrics.Metric` objects. Sample
            weights apply to them as to the loss (as to `weighted_metrics` in `compile`); outputs that Keras
            masked do not count in a mean. Metrics that layers hold are logged too.
        clip_norm: largest global norm of the gradients of the trained variables; None for no clipping.
        accumulate: how many batches make one update, equal to that of one large batch: gradients are weighted
            by the divisor of each batch's mean loss, so a short batch has less weight. Batches left when the
            data ends make an update, too, unless `carry`; the first time, a message is printed. `train` and
            `run` notice the end of the data (that of a dataset's iterator once `run` has found it); in a loop
            over `step(x, y)` call `flush`.
        carry: whether gradients that are left when the data ends wait for the batches of the next epoch.
        jit_compile: whether XLA compiles the forward and backward pass; "auto" for on a GPU alone, as XLA's
            convolutions are several times slower than TensorFlow's on a CPU.
        on_nonfinite: "raise" a `NonFiniteError`, "skip" the step, or "ignore" without a check; with
            "restore", `train` goes back to its last checkpoint with lower rates (see `Restore`), and other
            calls raise. A possible overflow of mixed_float16 is skipped first (see `Update`). For a model
            with max-pooling, which hides NaN on a CPU, inputs are checked too: if the model replaces NaN in
            them itself, use "ignore", or replace them in `Batches(..., transform=)`.
        on_spike: "skip" skips a step whose loss exceeds the mean loss of the last 128 steps by more than
            6 standard deviations; `Spike` for other numbers. The step is undone. As with
            `on_nonfinite="skip"`, it is in no mean, and counts under `skipped` in the logs of an epoch of
            `train`. With `accumulate`, each batch is checked alone. None skips no step.

    Attributes:
        model, optimizer, loss, metrics: as given; `optimizer` after wrapping.
        accumulate, carry, clip_norm, on_nonfinite, on_spike, jit_compile: as given.
        rate_cuts: how often `on_nonfinite="restore"` has lowered the rates; None without it.
        last_losses: the losses with which `on_spike` compares; None without it.
        inner_optimizer: the optimizer without the loss scale around it, if there is one.
        batches_done: int64 variable: the number of batches trained on, those of skipped steps included. A
            loss, a layer or a learning rate that reads it in a step gets 0, 1, 2, ...; a `tf.summary` without
            a step writes at 1, 2, 3, ...

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a model that is not built, or with a `train_step` or the like that a Keras loss would
            leave out; an unknown name, an option out of range.
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
        >>> values = step.run(iter(loops.Batches(x, y, batch_size=2)), steps=4)  # in one call
        >>> values["loss"].shape
        (4,)
    """

    _overridable_methods = TRAINING

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        optimizer: keras.optimizers.Optimizer | str,
        *,
        variables: VariablesOrFilters | None = None,
        metrics: Sequence[Metric] = (),
        clip_norm: float | None = None,
        accumulate: int = 1,
        carry: bool = False,
        jit_compile: bool | str = "auto",
        on_nonfinite: str | Restore = "raise",
        on_spike: str | Spike | None = None,
    ) -> None:
        super().__init__(model, loss, metrics)
        with scope_of(self.strategy):
            self.rate_cuts = RateCuts.of(on_nonfinite, self.strategy)
        # The step raises, and `train` restores.
        checked = on_nonfinite if self.rate_cuts is None else "raise"
        check_update_options(clip_norm, accumulate, checked)
        if accumulate > 1:
            self.loss_and_metrics.check_accumulates()
        if not isinstance(carry, bool):
            raise TypeError(
                f"`carry` must be True, to keep what is left for the next epoch, or False, not {carry!r}."
            )
        if jit_compile not in (True, False, "auto"):
            raise ValueError(f"`jit_compile` must be True, False or 'auto', not {jit_compile!r}.")
        if jit_compile is True and (reason := xla_incompatible(model, self.strategy)):
            raise ValueError(
                f"`jit_compile` is True, and XLA cannot compile the layer {reason}. Pass 'auto' or False."
            )
        with scope_of(self.strategy):
            self.optimizer = resolve_optimizer(optimizer, model)
        check_scope("optimizer", self.optimizer.variables[0], self.strategy)
        warn_of_other_optimizer(model, self.optimizer)
        self.inner_optimizer = inner_optimizer(self.optimizer)
        self.accumulate = int(accumulate)
        self.clip_norm, self.on_nonfinite = None if clip_norm is None else float(clip_norm), on_nonfinite
        self.carry, self.jit_compile, self.on_spike = carry, jit_compile, on_spike
        with scope_of(self.strategy):  # one for all choices of variables
            self.last_losses = LastLosses.of(on_spike, self.strategy)
        self._end = EndOfData(self.accumulate)

        def make_update(variables: list[keras.Variable]) -> StepUpdate:
            if not self.optimizer.built:
                self.optimizer.build(self.model.trainable_variables)
            names = self._names()
            return StepUpdate(
                self.optimizer,
                {names[id(variable)]: variable for variable in variables},
                clip_norm=clip_norm,
                accumulate=accumulate,
                on_nonfinite=checked,
                rate_of=None if self.rate_cuts is None else self.rate_cuts.rate_of,
                on_spike=self.last_losses,
            )

        def make_step(update: StepUpdate, request: MeasureRequest | None) -> CompiledStep:
            compile_for_saving(model, self.optimizer, loss)
            meters = Meters.of(model, update, request)
            return CompiledStep(
                model, self.loss_and_metrics, update, jit_compile, self.batches_done, self.strategy, meters
            )

        self.watcher = Watcher(model, self.optimizer, self.accumulate)
        self._choice = ChosenVariables(model, self.inner_optimizer, variables, self.optimizer)
        self._steps = CompiledSteps(self._choice, self.strategy, make_update, make_step, self._loops)

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables that train now, in the model's order: `chosen` less those that a plan freezes."""
        return self._choice.variables

    @property
    def chosen(self) -> list[keras.Variable]:
        """The chosen variables that are trainable now, in order, whether a plan freezes them or not."""
        return self._choice.chosen

    def train_only(self, *filters: FilterLike | keras.Variable) -> None:
        """Changes the variables that train, from the next step on; the optimizer keeps all its state.

        The step is traced once for a new choice. Gradients that were accumulated but not applied yet are
        dropped, as they belong to the previous choice.

        Args:
            filters: as `optim.select` takes them, or variables; `"*"` for all.

        Raises:
            SelectionError: a filter that matches nothing.
            ValueError: a variable that is not one of the model's trainable ones.

        Example:
            >>> import keras
            >>> from gradloop import loops
            >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="body"),
            ...                           keras.layers.Dense(2, name="head")])
            >>> step = loops.TrainStep(model, "mse", "adam", variables="head")
            >>> step.train_only("*")  # from the next step on
            >>> len(step.variables)
            4
        """
        self._choice.choose(list(filters))
        self._steps.drop_accumulated_gradients()

    def state(self) -> dict[str, keras.Variable | tf.Variable]:
        update, state = self._steps.current().update, super().state()
        names = {id(variable): name for name, variable in state.items()}
        pairs = [*state.items(), *optimizer_state(self.optimizer, names)]
        of = [*update.names, "calls", "total_weight"]
        pairs += [(f"accumulated/{name}", v) for name, v in zip(of, update.accumulators)]
        if self.last_losses is not None:
            pairs.append((LAST_LOSSES, self.last_losses.losses))
        if self.rate_cuts is not None:
            pairs.append((RATE_CUTS, self.rate_cuts.count))
        return unique(pairs)

    def _names(self) -> dict[int, str]:
        return {id(variable): name for name, variable in named_variables(self.model).items()}
