"""What an update measures of its calls, where it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import keras
import tensorflow as tf

from ...optim.common.types import Gradient, Scalar
from ...optim.gradients.replicas import replica_count
from ...optim.private.keras_private import RateOf
from ..support.tensorflow_private import without_autograph
from .accumulation import Accumulation
from .loss_scale import LossScale
from .measures import Measures


class Measuring(Accumulation):
    """The half of an `Update` that measures; see `Measures`."""

    names: list[str]
    variables: list[keras.Variable]
    clip_norm: float | None
    _inner: keras.optimizers.Optimizer
    _scale: LossScale
    _own_measures: Measures | None  # None where a caller has some of its own
    _retraces = False  # this and the next: see `StepUpdate`
    _rate_of: RateOf | None = None
    scale_loss: Callable[[Scalar], Scalar]  # these two are methods of `Update`
    _update: Callable[..., Scalar]

    @without_autograph
    def measured(
        self, gradients: Sequence[Gradient], loss: Scalar | None = None, weight: Scalar | float | None = None
    ) -> dict[str, Scalar]:
        """Updates the variables as a call does, and measures that: for the steps that you want to look at.

        Args:
            gradients, loss, weight: as for a call.

        Returns:
            Tag -> float64 scalar, of each group of a `GroupedOptimizer`'s plan, of all variables together
            without one: `rate/GROUP`; `grad_norm/GROUP`, summed over replicas, not scaled, not clipped;
            `weight_norm/GROUP`, before the update; `update_ratio/GROUP`, the norm of the change over that.
            Of all together `grad_norm/all`, `clipped/all` and `skipped/all` (0 or 1) and, if there is one,
            `loss_scale/all`. NaN for what there is none of: of a group that is frozen, or where the step was
            skipped or its gradients wait for more calls. On several replicas, each has its part of a number,
            as of a loss: `replicated` adds them up.

        Raises:
            ValueError, NonFiniteError: as a call.

        Example:
            >>> import keras, tensorflow as tf
            >>> from gradloop import loops
            >>> weight = keras.Variable([3.0, 4.0])
            >>> update = loops.Update(keras.optimizers.SGD(0.5), [weight], clip_norm=1.0)
            >>> found = update.measured([tf.constant([0.0, 2.0])])
            >>> {tag: round(float(number), 3) for tag, number in found.items()}
            {'rate/all': 0.5, 'grad_norm/all': 2.0, 'weight_norm/all': 5.0, 'update_ratio/all': 0.1, \
'clipped/all': 1.0, 'skipped/all': 0.0}
        """
        measures = self._own_measures
        assert measures is not None
        measures.reset()
        scale = self.scale_loss(tf.constant(1.0)) if self._scale.is_there else None
        taken = self._update(gradients, loss, weight, measures)
        with tf.control_dependencies([taken]):
            found = measures.tensors() | {"skipped/all": tf.where(taken, 0.0, 1.0)}
        found |= {} if scale is None else {"loss_scale/all": scale}
        return {tag: tf.cast(number, tf.float64) / replica_count() for tag, number in found.items()}

    def new_measures(self, histograms: Container[str] = ()) -> Measures:
        """What measures calls of `apply`; made outside of a TensorFlow function, in the strategy's scope."""
        variables = dict(zip(self.names, self.variables))
        return Measures(self._inner, variables, self.clip_norm, self._retraces, histograms, self._rate_of)
