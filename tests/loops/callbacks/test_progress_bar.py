"""The progress bar, written to a string or a terminal."""

import fcntl
import io
import os
import pty
import struct
import termios

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

X = np.random.RandomState(0).rand(10, 3).astype("float32")
Y = np.random.RandomState(1).rand(10, 2).astype("float32")


def _step():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    return loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1), metrics=["mae"])


def _last_lines(screen):
    """What each line shows in the end: tqdm goes back to its start to draw it again."""
    return [line.split("\r")[-1] for line in screen.getvalue().split("\n") if line.strip()]


def _generated():
    specs = (tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None, 2], tf.float32))
    return tf.data.Dataset.from_generator(
        lambda: ((X[i : i + 4], Y[i : i + 4]) for i in range(0, 10, 4)), output_signature=specs
    )


@pytest.mark.parametrize("data", [loops.Batches(X, Y, 4), _generated()], ids=["known", "unknown"])
def test_each_epoch_ends_with_its_logs(data):
    screen, known = io.StringIO(), isinstance(data, loops.Batches)
    callbacks = [loops.ProgressBar(screen)]
    history = loops.train(_step(), data, epochs=2, validation=loops.Batches(X, Y, 4), callbacks=callbacks)
    lines = _last_lines(screen)
    assert len(lines) == 2
    for epoch, line in enumerate(lines):
        assert line.startswith(f"Epoch {epoch + 1}/2: ")
        assert line.startswith(f"Epoch {epoch + 1}/2: " + ("3/3 [" if known else "3 steps ["))
        for name, values in history.history.items():
            assert f"{name}={values[epoch]:.4g}" in line


def test_an_epoch_that_goes_on_in_its_middle_begins_there(tmp_path):
    class Stop(loops.StepsCallback):
        def steps_allowed(self, done):
            return 1

        def on_train_steps_end(self, first, values):
            if first == 2:
                raise KeyboardInterrupt

    checkpoint, screen = loops.Checkpoint(tmp_path, verbose=0), io.StringIO()
    loops.train(_step(), loops.Batches(X, Y, 2), epochs=1, callbacks=[Stop()], checkpoint=checkpoint)
    bar = loops.ProgressBar(screen)
    history = loops.train(_step(), loops.Batches(X, Y, 2), epochs=1, callbacks=[bar], checkpoint=checkpoint)
    drawn = [line for line in screen.getvalue().split("\r") if line.strip()]
    assert not any(" 1/5 " in line for line in drawn)
    assert drawn[-1].startswith("Epoch 1/1: 5/5 [")
    assert f"loss={history.history['loss'][0]:.4g}" in drawn[-1]


def test_running_means_on_the_way():
    screen = io.StringIO()
    bar = loops.ProgressBar(screen)
    bar.set_params({"epochs": 1, "steps": 4})
    bar.on_epoch_begin(0)
    bar._bar.mininterval = 0
    bar.on_train_steps_end(1, {"loss": np.array([1.0, 2.0], "float32")})
    bar.on_train_steps_end(3, {"loss": np.array([6.0], "float32")})
    assert "loss=3" in screen.getvalue().split("\r")[-1]
    bar.on_epoch_end(0, {"loss": 2.5})
    assert "loss=2.5" in screen.getvalue().split("\r")[-1]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_the_bar_is_closed_after_an_error(error):
    def fail(epoch, logs):
        raise error

    screen = io.StringIO()
    bar = loops.ProgressBar(screen)
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=fail), bar]
    if error is KeyboardInterrupt:
        loops.train(_step(), loops.Batches(X, Y, 4), epochs=2, callbacks=callbacks)
    else:
        with pytest.raises(error):
            loops.train(_step(), loops.Batches(X, Y, 4), epochs=2, callbacks=callbacks)
    assert bar._bar is None
    assert screen.getvalue().endswith("\n") and len(_last_lines(screen)) == 1
    # The same bar serves the next call.
    loops.train(_step(), loops.Batches(X, Y, 4), epochs=1, callbacks=[bar])
    assert "Epoch 1/1: 3/3" in _last_lines(screen)[-1]


def test_standard_error_by_default(capsys):
    loops.train(_step(), loops.Batches(X, Y, 4), epochs=1, callbacks=[loops.ProgressBar()])
    captured = capsys.readouterr()
    assert "Epoch 1/1: 3/3" in captured.err and captured.out == ""


def test_the_line_that_stays_is_whole_in_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    screen = io.StringIO()
    data = loops.Batches(X, Y, 4)
    callbacks = [loops.ProgressBar(screen)]
    history = loops.train(_step(), data, epochs=1, validation=data, callbacks=callbacks)
    order = [part.split("=")[0] for part in _last_lines(screen)[0].split() if "=" in part]
    assert order == ["loss", "mae", "val_loss", "val_mae"]
    assert f"val_mae={history.history['val_mae'][0]:.4g}]" in _last_lines(screen)[0]


def test_a_skipped_step_does_not_blank_the_means():
    screen = io.StringIO()
    bar = loops.ProgressBar(screen)
    bar.set_params({"epochs": 1, "steps": 3})
    bar.on_epoch_begin(0)
    bar._bar.mininterval = 0
    bar.on_train_steps_end(1, {"loss": np.array([1.0, np.nan, 3.0], "float32")})
    assert "loss=2]" in screen.getvalue().split("\r")[-1]
    bar.on_train_end()


@pytest.mark.parametrize(("rows", "columns", "width"), [(24, 110, 109), (0, 0, 80)])
def test_a_terminal_with_and_without_a_size(rows, columns, width):
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with os.fdopen(writer, "w") as terminal:
        bar = loops.ProgressBar(terminal)
        bar.set_params({"epochs": 1, "steps": 2})
        bar.on_epoch_begin(0)
        bar._bar.mininterval = 0
        bar.on_train_steps_end(1, {"loss": np.array([1.0], "float32")})
        bar.on_epoch_end(0, {"loss": 2.5})
        shown = os.read(reader, 10_000).decode().split("\r")
    os.close(reader)
    running = [line for line in shown if "50%" in line]
    assert running and all(len(line) <= width and "loss=1" in line for line in running)
    assert any(line.startswith("Epoch 1/1: 1/2 [") and "loss=2.5" in line for line in shown)
