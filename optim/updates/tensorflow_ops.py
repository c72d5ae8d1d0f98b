"""TensorFlow's fused update kernels: one operation a variable where Keras builds about a dozen.

Each kernel computes what the Keras optimizer of its name computes, in the same precision, on float32 and
float64 variables. On float16 and bfloat16 the two would round at different places, so `update_op_for` leaves
those, and every optimizer that is not here, to Keras' own `update_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ..common.types import Scalar
from ..private.tensorflow_private import inside_xla, scratch
from .update_op import Scalars, Slots, UpdateOp

DTYPES = ("float32", "float64")


class _GradientDescent(UpdateOp):
    def scalars(self, dtype: str) -> Scalars:
        return []

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        tf.raw_ops.ResourceApplyGradientDescent(var=var.handle, alpha=rate, delta=grad)

    def update_rows(
        self, var: tf.Variable, grad: tf.IndexedSlices, rate: Scalar, slots: Slots, scalars: Scalars
    ) -> None:
        var.scatter_sub(tf.IndexedSlices(grad.values * rate, grad.indices))


class _Momentum(UpdateOp):
    slots = ("momentum",)

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._momentum = optimizer.momentum
        self._nesterov = optimizer.nesterov

    def scalars(self, dtype: str) -> Scalars:
        return [tf.constant(self._momentum, dtype)]

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=var.handle,
            accum=slots[0].handle,
            lr=rate,
            grad=grad,
            momentum=scalars[0],
            use_nesterov=self._nesterov,
        )


class _Adagrad(UpdateOp):
    # Keras divides by sqrt(accumulator + epsilon), the kernel by sqrt(accumulator) + epsilon. An accumulator
    # that starts epsilon higher, and no epsilon, is Keras' formula.
    slots = ("accumulator",)

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self.initial = optimizer.initial_accumulator_value + optimizer.epsilon

    def scalars(self, dtype: str) -> Scalars:
        return [tf.constant(0.0, dtype)]

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        tf.raw_ops.ResourceApplyAdagradV2(
            var=var.handle, accum=slots[0].handle, lr=rate, epsilon=scalars[0], grad=grad
        )

    def update_rows(
        self, var: tf.Variable, grad: tf.IndexedSlices, rate: Scalar, slots: Slots, scalars: Scalars
    ) -> None:
        if inside_xla():  # XLA has the dense kernel alone
            super().update_rows(var, grad, rate, slots, scalars)
            return
        tf.raw_ops.ResourceSparseApplyAdagradV2(
            var=var.handle,
            accum=slots[0].handle,
            lr=rate,
            epsilon=scalars[0],
            grad=grad.values,
            indices=grad.indices,
        )


class _Adadelta(UpdateOp):
    slots = ("accumulated_grad", "accumulated_delta_var")

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._rho, self._epsilon = optimizer.rho, optimizer.epsilon

    def scalars(self, dtype: str) -> Scalars:
        return [tf.constant(self._rho, dtype), tf.constant(self._epsilon, dtype)]

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        tf.raw_ops.ResourceApplyAdadelta(
            var=var.handle,
            accum=slots[0].handle,
            accum_update=slots[1].handle,
            lr=rate,
            rho=scalars[0],
            epsilon=scalars[1],
            grad=grad,
        )


class _RMSprop(UpdateOp):
    # Keras and the kernel round 1 - rho differently, so that the kernel's averages of squares are larger by a
    # factor that depends on nothing else: 1.0000129 for 0.999. The rate and epsilon make up for it.
    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._rho, self._epsilon = optimizer.rho, optimizer.epsilon
        self._momentum, self._centered = optimizer.momentum, optimizer.centered
        self.slots = ("velocity",)
        if self._momentum > 0:
            self.slots += ("momentum",)
        if self._centered:
            self.slots += ("average_gradient",)

    def scalars(self, dtype: str) -> Scalars:
        epsilon = self._epsilon * _rounding(self._rho, dtype)
        constants = [tf.constant(value, dtype) for value in (self._momentum, epsilon)]
        return [tf.constant(self._rho, dtype), *constants]

    def scaled(self, rate: Scalar) -> Scalar:
        return rate * math.sqrt(_rounding(self._rho, rate.dtype.name))

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        if not self._momentum and inside_xla():
            self._update_unfused(var, grad, rate, slots, scalars)
            return
        # The kernels want a momentum; where Keras keeps none, neither do we.
        momentum = slots[1].handle if self._momentum else scratch(grad)
        inputs = {"var": var.handle, "ms": slots[0].handle, "mom": momentum}
        inputs |= zip(("lr", "rho", "momentum", "epsilon", "grad"), (rate, *scalars, grad))
        if self._centered:
            tf.raw_ops.ResourceApplyCenteredRMSProp(mg=slots[-1].handle, **inputs)
        else:
            tf.raw_ops.ResourceApplyRMSProp(**inputs)

    def _update_unfused(
        self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars
    ) -> None:
        """The same without a momentum, in operations that XLA fuses itself."""
        rho, _, epsilon = scalars
        slots[0].assign_add((tf.square(grad) - slots[0]) * (1 - rho))
        spread = slots[0].read_value()
        if self._centered:
            slots[-1].assign_add((grad - slots[-1]) * (1 - rho))
            spread -= tf.square(slots[-1])
        var.assign_sub(rate * grad * tf.math.rsqrt(spread + epsilon))


class _Adam(UpdateOp):
    slots = ("momentum", "velocity")
    corrects_bias = True

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._betas = (optimizer.beta_1, optimizer.beta_2)
        self._epsilon = optimizer.epsilon

    def corrected(self, rates: tf.Tensor, update_counts: tf.Tensor) -> tf.Tensor:
        first, second = (_Powers(beta, rates.dtype, update_counts) for beta in self._betas)
        kernel = tf.cast(tf.sqrt(second.kernel_over_keras) / first.kernel_over_keras, rates.dtype)
        return rates * tf.sqrt(second.remainder) / first.remainder * kernel

    def scalars(self, dtype: str) -> Scalars:
        betas = [tf.constant(beta, dtype) for beta in self._betas]
        return [tf.constant(0.0, dtype), *betas, tf.constant(self._epsilon, dtype)]

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        # With powers of 0 the kernel's own bias correction is none: `rate` has it.
        none, beta_1, beta_2, epsilon = scalars
        tf.raw_ops.ResourceApplyAdam(
            var=var.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=none,
            beta2_power=none,
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=grad,
        )


class _Powers:
    """What bias correction needs of `beta ** n`.

    Keras averages with `1 - beta` rounded to float32, the kernel with 1 minus the rounded beta: 0.001 and
    0.00099998713 for 0.999. Their averages differ by a factor that is known for steady gradients and very
    nearly so for others; the rate makes up for it, or the updates would be 6e-6 off.

    Attributes:
        remainder: `1 - beta ** n`, with Keras' rounding of the power, and of beta to float32 whatever the
            variables are. (The power is taken in float64: a vectorised float32 power is off by enough to
            show once 1 - beta ** n has cancelled.)
        kernel_over_keras: the kernel's average over Keras', float64.
    """

    def __init__(self, beta: float, dtype: tf.DType, update_counts: tf.Tensor) -> None:
        count = tf.cast(update_counts, tf.float64)
        keras_power, kernel_power, power = (
            tf.pow(tf.cast(tf.constant(beta, kind), tf.float64), count)
            for kind in (tf.float32, dtype, tf.float64)
        )
        self.remainder = 1 - tf.cast(keras_power, dtype)
        self.kernel_over_keras = (1 - kernel_power) / (1 - power)


def _sgd(optimizer: keras.optimizers.Optimizer) -> UpdateOp:
    return _Momentum(optimizer) if optimizer.momentum else _GradientDescent()


def _adam(optimizer: keras.optimizers.Optimizer) -> UpdateOp | None:
    return None if optimizer.amsgrad else _Adam(optimizer)  # XLA lacks the AMSGrad kernel


_UPDATE_OPS: dict[type, Callable[[keras.optimizers.Optimizer], UpdateOp | None]] = {
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adagrad: _Adagrad,
    keras.optimizers.Adadelta: _Adadelta,
    keras.optimizers.RMSprop: _RMSprop,
    keras.optimizers.Adam: _adam,
    keras.optimizers.AdamW: _adam,
}


def update_op_for(optimizer: keras.optimizers.Optimizer, dtype: str) -> UpdateOp | None:
    """The kernel that does what `optimizer` does to variables of `dtype`; None if there is none.

    A subclass of a stock optimizer has none: it may do anything.
    """
    make = _UPDATE_OPS.get(type(optimizer))
    return None if make is None or dtype not in DTYPES else make(optimizer)


def _rounding(decay: float, dtype: str) -> float:
    """1 minus the rounded `decay` over 1 - `decay`."""
    rounded = float(np.dtype(dtype).type(decay))
    return (1 - rounded) / (1 - decay) if decay < 1 else 1.0
