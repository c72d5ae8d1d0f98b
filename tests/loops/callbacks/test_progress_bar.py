"""The progress bar: what it shows of a run, and a log's lines where there is no terminal."""

import io
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.callbacks import progress_bar
from tests.loops.callbacks.progress import LOGS, SHOWN, begun, step_values

X = np.random.RandomState(0).rand(10, 3).astype("float32")
Y = np.random.RandomState(1).rand(10, 2).astype("float32")


def _step():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    return loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1), metrics=["mae"])


def _generated():
    specs = (tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None, 2], tf.float32))
    return tf.data.Dataset.from_generator(
        lambda: ((X[i : i + 4], Y[i : i + 4]) for i in range(0, 10, 4)), output_signature=specs
    )


@pytest.mark.parametrize("data", [loops.Batches(X, Y, 4), _generated()], ids=["known", "unknown"])
def test_each_epoch_is_a_line_with_its_logs(data):
    screen, known = io.StringIO(), isinstance(data, loops.Batches)
    callbacks = [loops.ProgressBar(screen)]
    history = loops.train(_step(), data, epochs=2, validation=loops.Batches(X, Y, 4), callbacks=callbacks)
    assert "\r" not in screen.getvalue() and "\x1b" not in screen.getvalue()
    lines = screen.getvalue().splitlines()
    assert len(lines) == 2
    for epoch, line in enumerate(lines):
        assert line.startswith(f"Epoch {epoch + 1}/2: " + ("3/3 [" if known else "3 steps ["))
        names = [part.split("=")[0] for part in line.split() if "=" in part]
        assert names == ["loss", "mae", "val_loss", "val_mae"]
        for name, values in history.history.items():
            assert f" {name}={values[epoch]:#.4g}" in line


def test_a_file_that_lacks_letters_of_a_name():
    screen = io.TextIOWrapper(io.BytesIO(), "ascii")
    bar = loops.ProgressBar(screen)
    bar.set_params({"epochs": 1, "steps": 1})
    bar.on_epoch_begin(0)
    bar.on_epoch_end(0, {"α": 0.5})
    screen.flush()
    assert rb" \u03b1=0.5000" in screen.buffer.getvalue()


def test_a_long_epoch_gives_a_line_from_time_to_time(clock):
    screen = io.StringIO()
    bar = begun(screen, every_seconds=10)
    for number in range(6):
        clock.now += 4
        bar.on_train_steps_end(2 * number + 1, step_values(1.0, 2.0))
    bar.on_test_begin()
    clock.now += 10
    bar.on_test_steps_end(30, 90)
    clock.now += 20
    bar.on_epoch_end(1, LOGS)
    bar.on_train_end()
    lines = screen.getvalue().splitlines()
    assert lines[-2:] == [
        "Epoch 2/15 validation: 30/90 [00:10<00:20, 3 steps/s] loss=1.500 accuracy=0.7500",
        "Epoch 2/15: 12/1200 [00:54, 2 s/step] " + SHOWN,
    ]
    assert lines[:-2] == [
        "Epoch 2/15: 6/1200 [00:12<39:48, 2 s/step] loss=1.500 accuracy=0.7500",
        "Epoch 2/15: 12/1200 [00:24<39:36, 2 s/step] loss=1.500 accuracy=0.7500",
    ]


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
    assert screen.getvalue().startswith("Epoch 1/1: 5/5 [")
    assert f"loss={history.history['loss'][0]:#.4g}" in screen.getvalue()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_epoch_that_does_not_end_is_told(error):
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
    (line,) = screen.getvalue().splitlines()
    assert line.startswith("Epoch 1/2: 3/3 [") and " loss=" in line
    # The same bar serves the next call.
    loops.train(_step(), loops.Batches(X, Y, 4), epochs=1, callbacks=[bar])
    assert screen.getvalue().splitlines()[1].startswith("Epoch 1/1: 3/3 [")


def test_fit_which_tells_of_no_steps():
    screen = io.StringIO()
    bar = begun(screen, steps=3)
    bar.on_epoch_end(1, {"loss": 0.5})
    bar.on_epoch_begin(2)
    bar.on_train_end()  # after an error in the first step
    assert [line.split(" [")[0] for line in screen.getvalue().splitlines()] == [
        "Epoch 2/15: 3/3",
        "Epoch 3/15: 0/3",
    ]


def test_standard_error_by_default(capsys):
    loops.train(_step(), loops.Batches(X, Y, 4), epochs=1, callbacks=[loops.ProgressBar()])
    captured = capsys.readouterr()
    assert captured.err.startswith("Epoch 1/1: 3/3 [") and captured.out == ""


def test_a_skipped_step_does_not_blank_the_means():
    screen = io.StringIO()
    bar = begun(screen)
    bar.on_train_steps_end(1, {"loss": np.array([1.0, np.nan, 3.0], "float32")})
    bar.on_train_end()
    assert screen.getvalue().endswith(" loss=2.000\n")


def test_the_largest_is_shown_of_what_is_recorded_as_such():
    screen = io.StringIO()
    bar = begun(screen)
    recorded = types.SimpleNamespace(reductions={"top": "max", "mean": "mean"})
    bar.set_train_step(types.SimpleNamespace(loss_and_metrics=recorded))
    for first, numbers in ((1, [-3.0, -2.0]), (3, [np.nan]), (4, [-4.0])):
        array = np.array(numbers, "float32")
        bar.on_train_steps_end(first, {"loss": array, "top": array, "mean": array})
    bar.on_train_end()
    assert screen.getvalue().endswith(" loss=-3.000 top=-2.000 mean=-3.000\n")


def test_another_worker_shows_nothing(monkeypatch):
    monkeypatch.setattr(progress_bar, "is_chief", lambda: False)
    screen = io.StringIO()
    bar = begun(screen, every_seconds=1e-9)
    bar.on_train_steps_end(1, step_values(1.0))
    bar.on_test_begin()
    bar.on_epoch_end(1, LOGS)
    bar.on_train_end()
    assert screen.getvalue() == ""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"file": "log.txt"},
            TypeError,
            r"`file` must be an open text file, not 'log.txt': give `open\(path",
        ),
        ({"file": io.BytesIO()}, TypeError, "`file` must be an open text file, not <_io.BytesIO"),
        ({"every_seconds": 0}, ValueError, "`every_seconds` must be a finite number above 0, got 0"),
        ({"every_seconds": "30"}, TypeError, "`every_seconds` must be a number above 0, got '30'"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        loops.ProgressBar(**options)


def test_files_that_take_no_text(tmp_path):
    path = tmp_path / "log"
    path.touch()
    for mode in ("r", "wb"):
        with open(path, mode) as file, pytest.raises(TypeError, match="`file` must be an open text file"):
            loops.ProgressBar(file)
    with pytest.raises(TypeError, match="`file` must be an open text file, not .* name='.*log'"):
        loops.ProgressBar(file)  # it is closed


def test_without_a_standard_error_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    bar = loops.ProgressBar()
    bar.set_params({})
    bar.on_epoch_begin(0)
    bar.on_epoch_end(0, LOGS)
