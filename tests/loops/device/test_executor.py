"""The choice of executor never changes the numbers."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device import executor as module

pytestmark = pytest.mark.numbers

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, size=32)


def dense(width=8):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3, "softmax")]
    )


def test_small_dense_models_alone_suit_one_thread():
    one_device = len(tf.config.list_logical_devices()) == 1
    assert module.suits_one_thread(dense()) is one_device
    assert not module.suits_one_thread(dense(100_000))
    convolution = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])
    assert not module.suits_one_thread(convolution)


@pytest.mark.parametrize("recurrent", [False, True], ids=["dense", "recurrent"])
def test_same_weights_with_either_executor(monkeypatch, recurrent):
    def train(one_thread):
        monkeypatch.setattr("gradloop.loops.step.compiled_step.suits_one_thread", lambda model: one_thread)
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Reshape((4, 1)), keras.layers.GRU(5)] if recurrent else []
        model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3, "softmax")])
        step = loops.TrainStep(model, "sparse_categorical_crossentropy", "adam", metrics=["accuracy"])
        step.run(iter(loops.Batches(X, Y, 10)), 4)
        step(X, Y)
        return model.get_weights()

    for left, right in zip(train(True), train(False), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


HANGS = """
import sys
import keras, numpy as np, tensorflow as tf
tf.config.threading.set_inter_op_parallelism_threads(1)
from gradloop import loops

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
data = loops.Batches(np.ones((8, 3), "float32"), np.zeros((8, 2), "float32"), 2)

@tf.function
def inner(x):
    return tf.cond(tf.reduce_sum(x) > 0.0, lambda: x * 2.0, lambda: x)

def loss(model, batch):
    return tf.reduce_mean(inner(model(batch[0], training=True)) ** 2)

inner(tf.ones([2, 2]))
for step in (
    loops.TrainStep(model, loss, "sgd"),
    loops.TrainStep(model, "mse", "sgd", accumulate=2, on_nonfinite="skip"),
    loops.TrainStep(model, "mse", keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), accumulate=2),
):
    step(np.ones((2, 3), "float32"), np.zeros((2, 2), "float32"))
    assert len(step.run(iter(data), 4)["loss"]) == 4
print("done")
"""


def test_steps_with_functions_inside_do_not_wait_for_ever():
    """On one thread, a function inside a function would wait for the thread that its caller holds."""
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=240)
    assert done.stdout.endswith("done\n"), done.stderr


def test_nests_calls():
    @tf.function
    def flat(n):
        return tf.while_loop(lambda i: i < n, lambda i: (i + 1,), [0])

    @tf.function
    def nested(n):
        return tf.while_loop(lambda i: i < n, lambda i: (tf.cond(i > 2, lambda: i + 2, lambda: i + 1),), [0])

    for function, expected in ((flat, False), (nested, True)):
        with module.executor(True):
            traced = function.get_concrete_function(tf.TensorSpec([], tf.int32))
        assert module.nests_calls(traced) is expected
