"""One update of the chosen variables: sum, unscale, check, accumulate, clip, apply, in that order."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from ...optim import GroupedOptimizer
from ...optim.common.optimizers import inner_optimizer
from ...optim.common.types import Gradient, Scalar
from ...optim.gradients.given import as_gradient, reduce_over_replicas
from ..distribute.scope import check_in_replica, check_on_replicas, check_scope, scope_of, strategy_of
from ..distribute.sharding import share_of
from ..support.tensorflow_private import without_autograph
from .checks import (
    check_betas,
    check_built_for,
    check_gradients,
    check_not_frozen,
    check_optimizer,
    check_update_options,
    check_weight,
    variable_list,
)
from .clip_and_apply import ClipAndApply
from .guard import FiniteGuard
from .loss_scale import LossScale
from .measured_calls import MeasuredCalls
from .measures import Measures
from .nonfinite import raises_nonfinite
from .spikes import LastLosses, Spike


class Update(MeasuredCalls):
    """Applies gradients to the chosen variables, in one fixed order.

    1. sum over the replicas of the strategy, in one reduction (for each dtype): each replica gives the
       gradient of its share of the loss (see `mean_loss`);
    2. divide by the loss scale, if the optimizer is a `keras.optimizers.LossScaleOptimizer` or has a
       `loss_scale_factor`: the gradients are those of `update.scale_loss(loss)`;
    3. check that every gradient is finite: on all replicas or on none, since it is the sum. One of more than
       256 elements that add up to more than the largest float counts as infinite;
    4. add to the running sum, if `accumulate > 1`; the rest happens on each `accumulate`-th call alone, and
       in `flush`;
    5. clip by the global norm over all the trained variables together, then as the optimizer itself is set
       to (`clipnorm` and the like);
    6. apply once. `optimizer.iterations` counts updates, so schedules do too.

    For a scale of a float8 layer, the "gradient" is the new value: it is neither divided nor clipped, and
    the largest of all replicas and calls is taken, as for one batch.

    An optimizer that is not built yet is built here, over `variables`. To train other variables with it
    later, build it over all of them first: `optimizer.build(model.trainable_variables)`.

    Args:
        optimizer: any Keras optimizer.
        variables: the variables to train, as a list or as `{name: variable}`. Errors have these names, or a
            variable's `path` if it is a list; `optim.named_variables` has stable names.
        clip_norm: largest global norm of the gradients; None for no clipping.
        accumulate: how many calls make one update. Their gradients are averaged, each by what its call
            counts (see `weight` of a call). Gradients left when the data ends wait for more calls: `flush`
            applies them.
        on_nonfinite: what happens on a NaN or infinite gradient. "raise" ends the TensorFlow function with an
            error that `TrainStep` and `replicated` turn into a `NonFiniteError`; "skip" leaves everything as
            it was; "ignore" does not check. (State that the forward pass wrote is restored in a `TrainStep`
            and in `replicated`, not in a plain `tf.function`: see `docs/own_loops.md`.) With a loss scale, an
            overflow is skipped and the scale halved whichever is chosen, and "raise" raises where the scale
            cannot be the cause: once it has fallen below 1 and, in a `TrainStep`, where the batch holds NaN
            and so does the loss.
        on_spike: "skip" skips a call whose loss exceeds the mean of the last 128 losses by more than 6 of
            their standard deviations; `Spike` for other numbers. Calls then need a loss. None skips none.

    Raises:
        TypeError: `optimizer` is not a Keras optimizer, `variables` are no Keras variables, or an option is
            of another type.
        ValueError: no variables, a variable that the optimizer was not built with, a bad option, an
            optimizer with `use_ema` that was built over other variables, an optimizer or variables made
            outside of the strategy's scope, or a setting of the optimizer that several replicas exclude.

    Example:
        >>> import keras, tensorflow as tf
        >>> from gradloop import loops
        >>> weight = keras.Variable([1.0, 2.0])
        >>> update = loops.Update(keras.optimizers.SGD(0.5), [weight], clip_norm=1.0)
        >>> _ = update([tf.constant([3.0, 4.0])])
        >>> [round(float(number), 4) for number in weight.numpy()]
        [0.7, 1.6]

    Reference: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks" (clipping by
    the global norm); Micikevicius et al. 2018, "Mixed precision training" (loss scaling).
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable] | Mapping[str, keras.Variable],
        *,
        clip_norm: float | None = None,
        accumulate: int = 1,
        on_nonfinite: str = "raise",
        on_spike: str | Spike | LastLosses | None = None,
    ) -> None:
        check_optimizer(optimizer)
        self.variables = variable_list(variables)
        self.names = list(variables) if isinstance(variables, Mapping) else [v.path for v in self.variables]
        check_update_options(clip_norm, accumulate, on_nonfinite)
        self.optimizer = optimizer
        self.clip_norm = None if clip_norm is None else float(clip_norm)
        self._inner = inner_optimizer(optimizer)
        self._scale = LossScale(optimizer)
        strategy = self._strategy = strategy_of(self.variables, "variables")
        with scope_of(strategy):
            losses = LastLosses.of(on_spike, strategy)
        self._guard = FiniteGuard(self.names, self.variables, self._scale, on_nonfinite, losses)
        check_scope("optimizer", optimizer.variables[0], strategy)
        with scope_of(strategy):
            if not optimizer.built:
                optimizer.build(self.variables)
            elif isinstance(self._inner, GroupedOptimizer):
                self._inner.take_in(self.variables)
            super().__init__(self.variables, int(accumulate), strategy, self._inner)
        check_built_for(self._inner, self.variables, self.names)
        check_betas(self._inner, self.variables, self.names)
        check_on_replicas(self._inner, strategy)
        self._clip_and_apply = ClipAndApply(
            optimizer, self.variables, self._scale, self.clip_norm, self._retraces, self._rate_of
        )
        self._own_measures = None if self._retraces else self.new_measures()
        self._trained = [variable.trainable for variable in self.variables]

    @property
    def on_nonfinite(self) -> str:
        """The argument `on_nonfinite`."""
        return self._guard.on_nonfinite

    @property
    def last_losses(self) -> LastLosses | None:
        """The losses with which spikes are detected; None without `on_spike`."""
        return self._guard.losses

    @property
    def may_skip(self) -> bool:
        """Whether a call may skip its update: on overflow with a loss scale, with "skip", or for spikes."""
        return self._guard.may_skip

    @property
    def uses_not_overflow(self) -> bool:
        """Whether `apply` uses its argument `not_overflow`."""
        return self._guard.uses_not_overflow

    def scale_loss(self, loss: Scalar) -> Scalar:
        """Returns `loss` times the optimizer's loss scale, if it has one: what to differentiate."""
        return self._scale.scaled(loss)

    @without_autograph
    def __call__(
        self, gradients: Sequence[Gradient], loss: Scalar | None = None, weight: Scalar | float | None = None
    ) -> Scalar:
        """Updates the variables.

        Args:
            gradients: one per variable, of its shape: tensors, `tf.IndexedSlices` or NumPy arrays, of the
                scaled loss if there is a loss scale. On several replicas, those of this replica's share of
                the loss.
            loss: the loss or this replica's share of it, to be checked with the gradients; None to check the
                gradients alone.
            weight: the weight of this call in the average over `accumulate` calls: a number or a scalar, by
                which the loss was divided (examples, unmasked tokens), so that a short batch has less weight;
                None for 1. On several replicas, the weight of this replica's examples.

        Returns:
            A scalar bool tensor: whether the gradients were used (false if they were skipped). What depends
            on it runs after the check.

        Raises:
            ValueError: another number of gradients than variables, a gradient that is None or of another
                shape, a variable whose layer was frozen since (a TensorFlow function that was traced before
                cannot notice), a `weight` that is no scalar, or a call outside of the replicas of the
                strategy that the variables belong to.
            NonFiniteError: outside a TensorFlow function, with `on_nonfinite="raise"`.
        """
        return self._update(gradients, loss, weight)

    def _update(
        self,
        gradients: Sequence[Gradient],
        loss: Scalar | None,
        weight: Scalar | float | None,
        measures: Measures | None = None,
    ) -> Scalar:
        check_not_frozen(self.variables, self._trained, self.names)
        with raises_nonfinite(self.optimizer):
            count = None if weight is None else share_of(check_weight(weight))
            if not (loss is None or tf.is_tensor(loss)):
                loss = tf.constant(loss, tf.float32)
            present = {name: v for name, v in {"loss": loss, "weight": count}.items() if v is not None}
            sums, totals = self.all_reduce(gradients, list(present.values()))
            return self.apply(sums, **dict(zip(present, totals)), measures=measures)

    def all_reduce(
        self, gradients: Sequence[Gradient], others: Sequence[tf.Tensor]
    ) -> tuple[list[Gradient], list[tf.Tensor]]:
        """Sums gradients and `others`, of the same shapes on each replica, in one reduction; for `apply`."""
        gradients = list(gradients)
        check_gradients(gradients, self.names)
        check_in_replica("Update", self._strategy)
        gradients = [as_gradient("gradients", *g) for g in zip(self.names, self.variables, gradients)]
        sums = reduce_over_replicas(gradients, self.variables, others)
        return sums[: len(gradients)], sums[len(gradients) :]

    def finite(self, gradients: Sequence[Gradient | None], loss: Scalar) -> Scalar:
        """Whether a loss and gradients (scaled if there is a loss scale) are finite: scalar bool."""
        return self._guard.finite(gradients, loss)

    def apply(
        self,
        gradients: list[Gradient],
        loss: Scalar | None = None,
        not_overflow: Scalar | None = None,
        finite: Scalar | None = None,
        weight: Scalar | None = None,
        measures: Measures | None = None,
    ) -> Scalar:
        """The stages of a call after the first, for the sums that `all_reduce` returned.

        Args:
            gradients: one per variable, of its shape, summed over the replicas; of the scaled loss if there
                is a loss scale.
            loss: the loss of the whole batch, summed likewise; None to check the gradients alone.
            not_overflow: scalar bool, the same on each replica: whether a gradient that is not finite in this
                call is no overflow, so a lower loss scale would not help. None for false.
            finite: the result of the method `finite`, if the caller has it; None to compute it here.
            weight: of this call, float32, the same on each replica; None for 1.
            measures: measure the update, if this call makes one.
        """
        if isinstance(self._inner, GroupedOptimizer) and not self._retraces:
            # Frozen variables are neither checked nor part of the norm.
            gradients = self._inner.grouped_update.without_frozen(gradients, self.variables)
        # Do not change this order: the sum over replicas is clipped, not the share of each; the limit holds
        # for unscaled gradients of the whole batch; a gradient that is not finite would spoil the running
        # sums.
        gradients = self._scale.unscaled(gradients, self.variables)
        weights = [] if weight is None or self._accumulator is None else [weight]
        use = functools.partial(self._accumulate, measures=measures)
        return self._guard(gradients, loss, not_overflow, finite, weights, use)
