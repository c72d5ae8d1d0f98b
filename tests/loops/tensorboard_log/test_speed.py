"""How fast training goes, by clocks that the tests set, and by the real one."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device.read_clock import StepTime
from gradloop.loops.step.watch import Measured
from gradloop.loops.tensorboard_log import speed
from tests.loops.tensorboard_log.loaders import by_python


def _tags(points):
    return {tag: dict(values) for tag, values in points["steps"].items()}


def _begun(folder):
    """A board in a run."""
    board = loops.TensorBoard(folder)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    board.set_train_step(loops.TrainStep(model, "mse", "sgd"))
    board.on_train_begin()
    return board


def test_from_one_watched_step_to_the_next_within_an_epoch(tmp_path, monkeypatch):
    board, content = _begun(tmp_path), speed.Speed()
    content.on_session_begin(board, 1, 1)
    loss = {"loss": np.zeros(5)}

    def measured(began, ended, waited, examples=32):
        return Measured({"rate/all": 1.0}, {}, StepTime(began, ended, waited, examples))

    content.on_steps(board, 1, loss)
    content.on_measured(board, 5, measured(100.0, 100.5, 0.125))  # the first, alone
    content.on_steps(board, 6, loss)
    content.on_measured(board, 10, measured(101.9, 102.0, 0.03, 16))  # five in 1.5 s
    content.on_steps(board, 11, {"loss": np.zeros(3)})
    monkeypatch.setattr(time, "time", lambda: 110.0)
    content.on_epoch_end(board, 1, {})
    content.on_measured(board, 15, measured(110.3, 110.5, 9.0))  # two in 0.5 s
    content.on_measured(board, 20, measured(112.0, 113.0, np.nan))  # it was given its batch
    content.on_measured(board, 21, measured(112.0, 112.0, 0.0))  # somebody has set the clock back
    content.on_measured(board, 22, Measured({}, {}, StepTime(0.0, 1.0, 0.0, 1)))  # histograms alone
    board.close()
    tags = _tags(by_python(tmp_path))
    np.testing.assert_allclose(
        [tags["speed/steps_per_s"][number] for number in (5, 10, 15, 20)], [2, 5 / 1.5, 4, 2], rtol=1e-6
    )
    np.testing.assert_allclose(
        [tags["speed/examples_per_s"][number] for number in (5, 10, 15, 20)],
        [64, 80 / 1.5, 128, 64],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        [tags["speed/waiting_for_data"].pop(number) for number in (5, 10, 15)], [0.25, 0.1, 1.0], rtol=1e-6
    )
    assert not tags["speed/waiting_for_data"] and len(tags["speed/steps_per_s"]) == 4


def test_the_memory_of_each_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["one", "two"])
    peaks = {"GPU:0": {"peak": 2**20}, "GPU:1": {"peak": 2**21}}
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", peaks.__getitem__)
    board = _begun(tmp_path)
    board.on_measured(10, Measured({"rate/all": 1.0}, {}, StepTime(0.0, 1.0, 0.0, 4)))
    board.on_train_end()
    tags = _tags(by_python(tmp_path))
    assert tags["memory/GPU:0_peak"] == {10: 2**20} and tags["memory/GPU:1_peak"] == {10: 2**21}


def test_a_run_that_waits_for_its_data(tmp_path):
    x, y = np.ones((40, 3), "float32"), np.ones((40, 1), "float32")

    def slow(x, y):
        with tf.control_dependencies([tf.py_function(lambda: time.sleep(0.05), [], [])]):
            return tf.identity(x), y

    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).map(slow)
    step = loops.TrainStep(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), "mse", "sgd")
    loops.train(step, data, epochs=1, callbacks=[loops.TensorBoard(tmp_path, watch_every=3)])
    tags = _tags(by_python(tmp_path))
    assert list(tags["speed/waiting_for_data"]) == list(tags["speed/steps_per_s"]) == [3, 6, 9]
    assert max(tags["speed/waiting_for_data"].values()) > 0.3
    for number in (6, 9):
        rate = tags["speed/steps_per_s"][number]
        assert 0 < rate < 25 and tags["speed/examples_per_s"][number] == pytest.approx(4 * rate)
