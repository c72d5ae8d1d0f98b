"""`Update.measured`: calls of an update that are measured."""

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


class MeasuredCalls(Accumulation):
    """The half of an `Update` that measures; see `Measures`."""

    names: list[str]
    variables: list[keras.Variable]
    clip_norm: float | None
    _inner: keras.optimizers.Optimizer
    _scale: LossScale
    _own_measures: Measures | None  # None in a `StepUpdate`, whose caller has its own
    _retraces = False  # this and the next: see `StepUpdate`
    _rate_of: RateOf | None = None
    scale_loss: Callable[[Scalar], Scalar]  # these two are methods of `Update`
    _update: Callable[..., Scalar]

    @without_autograph
    def measured(
        self, gradients: Sequence[Gradient], loss: Scalar | None = None, weight: Scalar | float | None = None
    ) -> dict[str, Scalar]:
        """Updates the variables as a call does, and measures the update: for steps that you inspect.

        Args:
            gradients, loss, weight: as for a call.

        Returns:
            Tag -> float64 scalar, for each group of a `GroupedOptimizer`'s plan, or for `all` variables
            without a plan: `rate/GROUP`; `grad_norm/GROUP`, summed over replicas, unscaled, before clipping;
            `weight_norm/GROUP`, before the update; `update_ratio/GROUP`, the norm of the change divided by
            `weight_norm`. For all variables together: `grad_norm/all`, `clipped/all` and `skipped/all` (0 or
            1) and, with a loss scale, `loss_scale/all`. Values are NaN for a frozen group, and if the step
            was skipped or its gradients wait for more calls. On several replicas, each returns its share of a
            value, as of a loss: `replicated` sums them.

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
        scale = self.scale_loss(tf.constant(1.0)) if self._scale.exists else None
        taken = self._update(gradients, loss, weight, measures)
        with tf.control_dependencies([taken]):
            tags = measures.tensors() | {"skipped/all": tf.where(taken, 0.0, 1.0)}
        tags |= {} if scale is None else {"loss_scale/all": scale}
        return {tag: tf.cast(number, tf.float64) / replica_count() for tag, number in tags.items()}

    def new_measures(self, histograms: Container[str] = ()) -> Measures:
        """The `Measures` for calls of `apply`; make it outside of a TensorFlow function, in the scope."""
        variables = dict(zip(self.names, self.variables))
        return Measures(self._inner, variables, self.clip_norm, self._retraces, histograms, self._rate_of)
