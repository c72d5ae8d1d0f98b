"""What a run was started with, as text."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.tensorboard_log.texts import run_texts


def test_a_run_tells_what_it_is(logged):
    found = {tag: values for tag, values in logged.values("train", "run/").items()}
    texts = {tag: values[0][1].tensor.string_val[0].decode() for tag, values in found.items()}
    assert [len(values) for values in found.values()] == [1] * 5
    assert {value.metadata.plugin_data.plugin_name for [(_, value)] in found.values()} == {"text"}
    assert str(logged.step.inner_optimizer.plan) in texts["run/plan"]
    assert "conv/kernel" in texts["run/variables"] and "norm" in texts["run/variables"]
    assert f"| TensorFlow | {tf.__version__} |" in texts["run/versions"]
    assert f"| Keras | {keras.__version__} |" in texts["run/versions"] and "CPU:0" in texts["run/versions"]
    assert "| keras.utils.set_random_seed | 2 |" in texts["run/settings"]
    for row in ("epochs | 2", "steps in an epoch | 4", "batch size | 5", "seed of the data | 0"):
        assert f"| {row} |" in texts["run/settings"]
    assert sys.argv[0] in texts["run/command"]


@pytest.mark.parametrize(("units", "told"), [(1000, True), (2001, False)])
def test_large_models_have_no_table_of_norms(units, told):
    model = keras.Sequential([keras.Input((1000,)), keras.layers.Dense(units, "relu")])
    step = loops.TrainStep(model, "mse", "sgd")
    texts = {value.tag: value for value in run_texts(step, None, {})}
    assert ("run/variables" in texts) == told and "run/plan" not in texts
    if told:
        assert optim.summary(model) in texts["run/variables"].tensor.string_val[0].decode()
    assert "examples" not in texts["run/settings"].tensor.string_val[0].decode()


def test_a_command_that_is_no_text(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", b"caf\xe9.npz".decode(errors="surrogateescape")])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    command, *_ = run_texts(loops.TrainStep(model, "mse", "sgd"), None, {})
    assert rb"caf\udce9.npz" in command.tensor.string_val[0]


def test_a_strategy_and_a_loss_of_ones_own_are_named():
    def squared(model, batch, training=True):
        return tf.reduce_mean(tf.square(model(batch[0], training=training)))

    with tf.distribute.MirroredStrategy(["cpu:0"]).scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        step = loops.TrainStep(model, squared, "sgd")
    texts = {
        v.tag: v.tensor.string_val[0].decode()
        for v in run_texts(step, loops.Batches(np.ones((2, 2)), None, 2), {})
    }
    assert "| strategy | MirroredStrategy, 1 replicas |" in texts["run/versions"]
    assert "| loss | squared |" in texts["run/settings"]
