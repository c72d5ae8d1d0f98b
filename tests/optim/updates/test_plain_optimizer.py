"""Stock Keras optimizers, as they are, updated by fused kernels: Keras' numbers, on Keras' state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.optim.updates.plain_optimizer import fused_update
from tests.keras_names import count_layers_anew

pytestmark = pytest.mark.versions

K = keras.optimizers
WITH_KERNEL = {
    "sgd": lambda: K.SGD(0.1),
    "momentum": lambda: K.SGD(0.1, momentum=0.9),
    "nesterov": lambda: K.SGD(0.1, momentum=0.9, nesterov=True),
    "decay": lambda: K.SGD(0.1, weight_decay=0.1),
    "adadelta": lambda: K.Adadelta(1.0),
    "rmsprop": lambda: K.RMSprop(0.01),
    "centered": lambda: K.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": lambda: K.Adam(0.01),
    "adamw": lambda: K.AdamW(0.01, weight_decay=0.1),
    "schedule": lambda: K.Adam(K.schedules.ExponentialDecay(0.1, 10, 0.5)),
}


def dense_variables(dtype="float32"):
    count_layers_anew()
    layer = keras.layers.Dense(3, dtype=dtype, kernel_initializer=keras.initializers.GlorotUniform(1))
    layer.build((None, 4))
    return layer.trainable_variables


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_same_weights_and_state_as_keras(name):
    rng = np.random.default_rng(0)
    kernels, biases = rng.normal(size=(50, 4, 3)), rng.normal(size=(50, 3))

    def end(fused):
        variables, optimizer = dense_variables(), WITH_KERNEL[name]()
        optimizer.build(variables)
        update = fused_update(optimizer, variables)
        assert update is not None

        @tf.function(autograph=False)
        def step(kernel, bias):
            if fused:
                update([kernel, bias])
            else:
                optimizer.apply([kernel, bias], variables)

        for kernel, bias in zip(kernels, biases):
            step(tf.constant(kernel, tf.float32), tf.constant(bias, tf.float32))
        return [v.numpy() for v in [*variables, *optimizer.variables]]

    # Adam's kernel averages squares with 1 minus the rounded beta: the state is 1.3e-5 off, the weights not.
    for index, (ours, theirs) in enumerate(zip(end(fused=True), end(fused=False))):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6 if index < 2 else 2e-5, atol=1e-7)


def test_a_subset_updates_its_own_state_alone():
    variables, optimizer = dense_variables(), K.Adam(0.1)
    optimizer.build(variables)
    kernel, bias = (v.numpy() for v in variables)
    fused_update(optimizer, variables[1:])([tf.ones(3)])
    np.testing.assert_array_equal(variables[0].numpy(), kernel)
    np.testing.assert_allclose(variables[1].numpy(), bias - 0.1, rtol=1e-5)
    moved = {v.name for v in optimizer.variables if np.any(v.numpy())} - {"iteration", "learning_rate"}
    assert moved == {"dense_bias_momentum", "dense_bias_velocity"}


def test_constraints_are_applied():
    variable = keras.Variable(tf.ones((2, 2)), name="kernel")
    variable.constraint = keras.constraints.NonNeg()
    optimizer = K.SGD(3.0)
    optimizer.build([variable])
    fused_update(optimizer, [variable])([tf.constant([[1.0, 0.1], [0.0, -1.0]])])
    np.testing.assert_allclose(variable.numpy(), [[0.0, 0.7], [1.0, 4.0]], rtol=1e-6)


def test_decay_respects_what_is_excluded_from_it():
    variables, optimizer = dense_variables(), K.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    variables[1].assign([1.0, 1.0, 1.0])
    optimizer.build(variables)
    kernel = variables[0].numpy()
    fused_update(optimizer, variables)([tf.zeros((4, 3)), tf.zeros(3)])
    np.testing.assert_allclose(variables[0].numpy(), kernel * 0.95, rtol=1e-6)
    np.testing.assert_array_equal(variables[1].numpy(), [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    "optimizer",
    [
        K.Lion(0.1),
        K.Adagrad(0.1),  # the kernel's epsilon stands elsewhere
        K.Adam(0.1, amsgrad=True),
        K.SGD(0.1, clipnorm=1.0),
        K.SGD(0.1, global_clipnorm=1.0),
        K.Adam(0.1, use_ema=True),
        K.SGD(0.1, gradient_accumulation_steps=2),
        type("Mine", (K.SGD,), {})(0.1),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_keras_does_the_rest_itself(optimizer):
    variables = dense_variables()
    optimizer.build(variables)
    assert fused_update(optimizer, variables) is None


def test_half_precision_is_left_to_keras():
    variables, optimizer = dense_variables("float16"), K.SGD(0.1)
    optimizer.build(variables)
    assert fused_update(optimizer, variables) is None


def test_state_that_names_do_not_tell_apart_is_left_to_keras():
    variables = [keras.Variable(tf.ones(2), name="weight") for _ in range(2)]
    assert variables[0].path == variables[1].path
    optimizer = K.Adam(0.1)
    optimizer.build(variables)
    assert fused_update(optimizer, variables) is None
