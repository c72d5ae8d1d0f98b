"""TensorFlow's fused update kernels: one operation a variable where Keras builds about a dozen.

Each kernel computes what the Keras optimizer of its name computes, in the same precision, on float32 and
float64 variables. On float16 and bfloat16 the two would round at different places, so `update_op_for` leaves
those, and every optimizer that is not here, to Keras' own `update_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from ..common.types import Scalar
from ..private.tensorflow_private import inside_xla, scratch

Scalars: TypeAlias = list[Scalar]
Slots: TypeAlias = Sequence[tf.Variable]


class UpdateOp:
    """An optimizer's update of one variable by one TensorFlow operation.

    Args:
        operation: of `tf.raw_ops`, whose inputs for the rate and the gradient are `lr` and `grad`.
        slots: the state variables that each variable has, of its shape: name -> input of the operation.
        settings: the numbers that all variables share: input of the operation -> number.
        initial: what the slots start with.
    """

    corrects_bias = False  # whether the rate depends on how many updates a variable has had (`corrected`)

    def __init__(
        self,
        operation: Callable[..., object],
        slots: Mapping[str, str],
        settings: Mapping[str, float],
        initial: float = 0.0,
    ) -> None:
        self.slots = tuple(slots)
        self.initial = initial
        self._operation = operation
        self._slots = slots.values()
        self._settings = settings

    def scaled(self, rate: Scalar) -> Scalar:
        """A group's rate, in the variables' dtype, as the operation wants it."""
        return rate

    def corrected(self, rates: tf.Tensor, update_counts: tf.Tensor) -> tf.Tensor:
        """The rates, (variables,), with bias correction: `update_counts` is (variables,) int64, from 1."""
        return rates

    def scalars(self, dtype: str) -> Scalars:
        """The settings as tensors, made once for all variables of a group."""
        return [tf.constant(value, dtype) for value in self._settings.values()]

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        """Updates one variable and its slots by a dense gradient."""
        self._operation(grad=grad, **self._inputs(var, rate, slots, scalars))

    def update_rows(
        self, var: tf.Variable, grad: tf.IndexedSlices, rate: Scalar, slots: Slots, scalars: Scalars
    ) -> None:
        """The same by a sparse gradient with each row once.

        Most optimizers move rows without a gradient too (by momentum), as Keras does, so this is the dense
        update unless a subclass knows better.
        """
        rows = tf.shape(var, out_type=grad.indices.dtype)[0]
        dense = tf.math.unsorted_segment_sum(grad.values, grad.indices, rows)
        self.update(var, tf.ensure_shape(dense, var.shape), rate, slots, scalars)

    def _inputs(self, var: tf.Variable, rate: Scalar, slots: Slots, scalars: Scalars) -> dict[str, tf.Tensor]:
        """All that the operation takes beside the gradient."""
        handles = [slot.handle for slot in slots]
        return dict(zip(("var", "lr", *self._slots, *self._settings), (var.handle, rate, *handles, *scalars)))


class _GradientDescent(UpdateOp):
    def __init__(self) -> None:
        super().__init__(tf.raw_ops.ResourceApplyGradientDescent, {}, {})

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        self._operation(var=var.handle, alpha=rate, delta=grad)

    def update_rows(
        self, var: tf.Variable, grad: tf.IndexedSlices, rate: Scalar, slots: Slots, scalars: Scalars
    ) -> None:
        var.scatter_sub(tf.IndexedSlices(grad.values * rate, grad.indices))


class _Adagrad(UpdateOp):
    def __init__(self, optimizer: keras.optimizers.Adagrad) -> None:
        # Keras divides by sqrt(accumulator + epsilon), the kernel by sqrt(accumulator) + epsilon. An
        # accumulator that starts epsilon higher, and no epsilon, is Keras' formula.
        initial = optimizer.initial_accumulator_value + optimizer.epsilon
        slots = {"accumulator": "accum"}
        super().__init__(tf.raw_ops.ResourceApplyAdagradV2, slots, {"epsilon": 0.0}, initial)

    def update_rows(
        self, var: tf.Variable, grad: tf.IndexedSlices, rate: Scalar, slots: Slots, scalars: Scalars
    ) -> None:
        if inside_xla():  # XLA has the dense kernel alone
            super().update_rows(var, grad, rate, slots, scalars)
            return
        inputs = self._inputs(var, rate, slots, scalars)
        tf.raw_ops.ResourceSparseApplyAdagradV2(grad=grad.values, indices=grad.indices, **inputs)


class _RMSprop(UpdateOp):
    # Keras and the kernel round 1 - rho differently, so that the kernel's averages of squares are larger by a
    # factor that depends on nothing else: 1.0000129 for 0.999. The rate and epsilon make up for it.
    def __init__(self, optimizer: keras.optimizers.RMSprop) -> None:
        self._rho, self._momentum, self._epsilon = optimizer.rho, optimizer.momentum, optimizer.epsilon
        operation, slots = tf.raw_ops.ResourceApplyRMSProp, {"velocity": "ms"}
        if self._momentum > 0:
            slots["momentum"] = "mom"
        if optimizer.centered:
            operation, slots["average_gradient"] = tf.raw_ops.ResourceApplyCenteredRMSProp, "mg"
        settings = {"rho": self._rho, "momentum": self._momentum, "epsilon": self._epsilon}
        super().__init__(operation, slots, settings)

    def scalars(self, dtype: str) -> Scalars:
        epsilon = self._epsilon * _rounding(self._rho, dtype)
        return [tf.constant(value, dtype) for value in (self._rho, self._momentum, epsilon)]

    def scaled(self, rate: Scalar) -> Scalar:
        return rate * math.sqrt(_rounding(self._rho, rate.dtype.name))

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        if self._momentum:
            super().update(var, grad, rate, slots, scalars)
        elif not inside_xla():
            # The kernels want a momentum; where Keras keeps none, neither do we.
            self._operation(grad=grad, mom=scratch(grad), **self._inputs(var, rate, slots, scalars))
        else:
            self._update_unfused(var, grad, rate, slots, scalars)

    def _update_unfused(
        self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars
    ) -> None:
        """The same without a momentum, in operations that XLA fuses itself."""
        rho, _, epsilon = scalars
        slots[0].assign_add((tf.square(grad) - slots[0]) * (1 - rho))
        spread = slots[0].read_value()
        if "average_gradient" in self.slots:
            slots[-1].assign_add((grad - slots[-1]) * (1 - rho))
            spread -= tf.square(slots[-1])
        var.assign_sub(rate * grad * tf.math.rsqrt(spread + epsilon))


class _Adam(UpdateOp):
    corrects_bias = True

    def __init__(self, optimizer: keras.optimizers.Adam) -> None:
        self._betas = (optimizer.beta_1, optimizer.beta_2)
        # With powers of 0 the kernel's own bias correction is none: the rate has it.
        settings = {"beta1_power": 0.0, "beta1": optimizer.beta_1, "beta2": optimizer.beta_2}
        settings["epsilon"] = optimizer.epsilon
        super().__init__(tf.raw_ops.ResourceApplyAdam, {"momentum": "m", "velocity": "v"}, settings)

    def corrected(self, rates: tf.Tensor, update_counts: tf.Tensor) -> tf.Tensor:
        (first, mean), (second, square) = (_powers(beta, rates.dtype, update_counts) for beta in self._betas)
        return rates * tf.sqrt(second) / first * tf.cast(tf.sqrt(square) / mean, rates.dtype)

    def update(self, var: tf.Variable, grad: tf.Tensor, rate: Scalar, slots: Slots, scalars: Scalars) -> None:
        inputs = self._inputs(var, rate, slots, scalars)
        self._operation(grad=grad, beta2_power=inputs["beta1_power"], **inputs)


def _powers(beta: float, dtype: tf.DType, update_counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What bias correction needs: `1 - beta ** n` as Keras has it; the kernel's average over Keras', float64.

    Keras averages with `1 - beta` rounded to float32, the kernel with 1 minus the rounded beta: 0.001 and
    0.00099998713 for 0.999. Their averages differ by a factor that is known for steady gradients and very
    nearly so for others; the rate makes up for it, or the updates would be 6e-6 off.
    """
    count = tf.cast(update_counts, tf.float64)
    keras_power, kernel_power, power = (
        tf.pow(tf.cast(tf.constant(beta, kind), tf.float64), count)
        for kind in (tf.float32, dtype, tf.float64)
    )
    # Keras rounds the power, and beta to float32 whatever the variables are. (The power is taken in float64:
    # a vectorised float32 one is off by enough to show.)
    return 1 - tf.cast(keras_power, dtype), (1 - kernel_power) / (1 - power)


def _sgd(optimizer: keras.optimizers.SGD) -> UpdateOp:
    if not optimizer.momentum:
        return _GradientDescent()
    operation = partial(tf.raw_ops.ResourceApplyKerasMomentum, use_nesterov=optimizer.nesterov)
    return UpdateOp(operation, {"momentum": "accum"}, {"momentum": optimizer.momentum})


def _adadelta(optimizer: keras.optimizers.Adadelta) -> UpdateOp:
    slots = {"accumulated_grad": "accum", "accumulated_delta_var": "accum_update"}
    settings = {"rho": optimizer.rho, "epsilon": optimizer.epsilon}
    return UpdateOp(tf.raw_ops.ResourceApplyAdadelta, slots, settings)


def _adam(optimizer: keras.optimizers.Adam) -> UpdateOp | None:
    return None if optimizer.amsgrad else _Adam(optimizer)  # XLA lacks the AMSGrad kernel


_UPDATE_OPS: dict[type, Callable[[keras.optimizers.Optimizer], UpdateOp | None]] = {
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adagrad: _Adagrad,
    keras.optimizers.Adadelta: _adadelta,
    keras.optimizers.RMSprop: _RMSprop,
    keras.optimizers.Adam: _adam,
    keras.optimizers.AdamW: _adam,
}


def update_op_for(optimizer: keras.optimizers.Optimizer, dtype: str) -> UpdateOp | None:
    """The kernel that does what `optimizer` does to variables of `dtype`; None if there is none.

    A subclass of a stock optimizer has none, nor has one with a method of its own: it may do anything.
    """
    patched = any(callable(v) and hasattr(type(optimizer), name) for name, v in vars(optimizer).items())
    make = None if patched else _UPDATE_OPS.get(type(optimizer))
    return None if make is None or dtype not in ("float32", "float64") else make(optimizer)


def _rounding(decay: float, dtype: str) -> float:
    """1 minus the rounded `decay` over 1 - `decay`."""
    rounded = float(np.dtype(dtype).type(decay))
    return (1 - rounded) / (1 - decay) if decay < 1 else 1.0
