"""Each kernel beside the formula of its paper, as Keras writes it, in float64 numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.optim.gradients.sparse import without_repeats
from gradloop.optim.updates.tensorflow_ops import update_op_for

K = keras.optimizers
RATE = 0.1
START = np.random.RandomState(0).standard_normal((4, 3)).astype("float32")
GRADIENTS = np.random.RandomState(1).standard_normal((5, 4, 3)).astype("float32")


def sgd(w, gradients):
    for g in gradients:
        w = w - RATE * g
    return w


def momentum(w, gradients, nesterov=False):
    m = 0.0
    for g in gradients:
        m = 0.9 * m - RATE * g
        w = w + (0.9 * m - RATE * g if nesterov else m)
    return w


def adagrad(w, gradients):
    total = 0.1
    for g in gradients:
        total = total + g**2
        w = w - RATE * g / np.sqrt(total + 1e-3)
    return w


def adadelta(w, gradients):
    squares = deltas = 0.0
    for g in gradients:
        squares = 0.95 * squares + 0.05 * g**2
        delta = np.sqrt(deltas + 1e-3) / np.sqrt(squares + 1e-3) * g
        deltas = 0.95 * deltas + 0.05 * delta**2
        w = w - RATE * delta
    return w


def rmsprop(w, gradients, centered=False, momentum=0.0):
    squares = mean = m = 0.0
    for g in gradients:
        squares = 0.9 * squares + 0.1 * g**2
        mean = 0.9 * mean + 0.1 * g
        m = momentum * m + RATE * g / np.sqrt(squares - centered * mean**2 + 1e-3)
        w = w - m
    return w


def adam(w, gradients):
    m = v = 0.0
    for step, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-3)
    return w


CASES = {
    "sgd": (K.SGD(), sgd),
    "momentum": (K.SGD(momentum=0.9), momentum),
    "nesterov": (K.SGD(momentum=0.9, nesterov=True), lambda w, g: momentum(w, g, True)),
    "adagrad": (K.Adagrad(epsilon=1e-3), adagrad),
    "adadelta": (K.Adadelta(epsilon=1e-3), adadelta),
    "rmsprop": (K.RMSprop(epsilon=1e-3), rmsprop),
    "centered": (K.RMSprop(epsilon=1e-3, centered=True), lambda w, g: rmsprop(w, g, True)),
    "rms momentum": (K.RMSprop(epsilon=1e-3, momentum=0.9), lambda w, g: rmsprop(w, g, False, 0.9)),
    "rms both": (K.RMSprop(epsilon=1e-3, centered=True, momentum=0.9), lambda w, g: rmsprop(w, g, True, 0.9)),
    "adam": (K.Adam(epsilon=1e-3), adam),
    "adamw": (K.AdamW(epsilon=1e-3), adam),
}


def fresh(kernel, dtype="float32"):
    variable = tf.Variable(START.astype(dtype))
    slots = [tf.Variable(np.full(START.shape, kernel.initial, dtype)) for _ in kernel.slots]
    return variable, slots


def step(kernel, variable, slots, gradient, count, rate=RATE):
    dtype = variable.dtype.name
    rates = tf.stack([kernel.scaled(tf.constant(rate, dtype))])
    rate = kernel.corrected(rates, tf.stack([tf.cast(count, tf.int64)]))[0]
    update = kernel.update_rows if isinstance(gradient, tf.IndexedSlices) else kernel.update
    update(variable, gradient, rate, slots, kernel.scalars(dtype))


def run(kernel, gradients, jit=False):
    variable, slots = fresh(kernel)

    @tf.function(jit_compile=jit, autograph=False)
    def one(gradient, count):
        step(kernel, variable, slots, gradient, count)

    for count, gradient in enumerate(gradients, 1):
        one(gradient, tf.constant(count))
    return variable.numpy()


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("case", CASES)
def test_formula(case, jit):
    optimizer, formula = CASES[case]
    found = run(update_op_for(optimizer, "float32"), GRADIENTS, jit)
    # 0.999 in float32 makes Adam's first corrections, here as in Keras, 6e-6 larger than on paper.
    np.testing.assert_allclose(found, formula(START.astype("float64"), GRADIENTS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("case", CASES)
def test_sparse_gradients_are_the_dense_ones(case, jit):
    """Rows that repeat count with their sum; rows without a gradient move as by zeros."""
    kernel = update_op_for(CASES[case][0], "float32")
    rows = np.array([[1, 3, 1], [0, 0, 0], [2, 1, 2]])
    values = GRADIENTS[:3, :3]
    dense = np.zeros((3, *START.shape), "float32")
    for gradient, places, share in zip(dense, rows, values):
        np.add.at(gradient, places, share)
    shape = tf.constant(START.shape)
    slices = [tf.IndexedSlices(tf.constant(v), tf.constant(r), shape) for v, r in zip(values, rows)]
    sparse = [without_repeats(each) for each in slices]
    np.testing.assert_allclose(run(kernel, sparse, jit), run(kernel, dense), rtol=1e-6)


def test_no_momentum_is_kept_where_keras_keeps_none():
    assert update_op_for(K.RMSprop(), "float32").slots == ("velocity",)
    assert update_op_for(K.SGD(), "float32").slots == ()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_no_kernel_for_16_bits(dtype):
    assert update_op_for(K.Adam(), dtype) is None


def test_no_kernel_for_a_method_of_ones_own():
    optimizer, weight = keras.optimizers.SGD(1.0), keras.Variable([1.0])
    optimizer.update_step = lambda gradient, variable, rate: variable.assign(gradient)
    assert update_op_for(optimizer, "float32") is None
    loops.Update(optimizer, [weight])([tf.constant([5.0])])
    assert float(weight[0]) == 5.0


def test_no_kernel_for_other_optimizers():
    class Mine(K.Adam):
        pass

    for optimizer in (Mine(), K.Adam(amsgrad=True), K.AdamW(amsgrad=True), K.Lion(), K.Nadam()):
        assert update_op_for(optimizer, "float32") is None


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.999])
def test_bias_correction_is_that_of_keras(beta):
    """A vector of updates at once, with Keras' roundings of `1 - beta ** n`."""
    kernel = update_op_for(K.Adam(beta_1=beta, beta_2=beta), "float32")
    counts = np.array([1, 2, 10, 1000, 100_000])
    rates = tf.ones([len(counts)])
    found = kernel.corrected(rates, tf.constant(counts, tf.int64)).numpy()
    powers = np.array([tf.pow(tf.constant(beta), tf.constant(float(count))) for count in counts])
    expected = np.sqrt(1 - powers) / (1 - powers)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
