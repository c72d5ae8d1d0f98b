"""The choice of executor never changes the numbers."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device import executor as module
from tests.programs import Program

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


@pytest.mark.numbers
@pytest.mark.parametrize("recurrent", [False, True], ids=["dense", "recurrent"])
def test_same_weights_with_either_executor(monkeypatch, recurrent):
    def train(one_thread):
        monkeypatch.setattr("gradloop.loops.step.compiled_step.suits_one_thread", lambda model: one_thread)
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Reshape((4, 1)), keras.layers.SimpleRNN(5)] if recurrent else []
        model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3, "softmax")])
        step = loops.TrainStep(model, "sparse_categorical_crossentropy", "adam", metrics=["accuracy"])
        step.run(iter(loops.Batches(X, Y, 10)), 4)
        step(X, Y)
        return model.get_weights()

    for left, right in zip(train(True), train(False), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


def test_steps_with_functions_inside_do_not_wait_for_ever(tmp_path):
    """On one thread, a function inside a function would wait for the thread that its caller holds."""
    program = Path(__file__).parent / "programs" / "nested_functions.py"
    assert Program(program, folder=tmp_path).finish().endswith("done\n")


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
