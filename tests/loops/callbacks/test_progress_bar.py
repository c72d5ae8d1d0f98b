"""The progress bar in a terminal, in a notebook, and where there is neither."""

import fcntl
import html
import io
import os
import pty
import struct
import sys
import termios
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.callbacks import progress_bar, progress_display
from gradloop.loops.callbacks.progress_text import Progress, details, fitting_line, whole_line

X = np.random.RandomState(0).rand(10, 3).astype("float32")
Y = np.random.RandomState(1).rand(10, 2).astype("float32")


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (progress_bar, progress_display):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Terminal:
    """A terminal of some columns, and what it shows in the end."""

    def __init__(self, columns, rows=24):
        self.reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.file, self.columns, self.text = os.fdopen(writer, "w"), columns or 80, ""

    def close(self):
        self.file.close()
        os.close(self.reader)

    def read(self):
        """What was written since the last time."""
        print("\0", end="", file=self.file, flush=True)
        raw = b""
        while not raw.endswith(b"\0"):
            raw += os.read(self.reader, 10_000)
        new = raw[:-1].decode()
        self.text += new
        return new

    def rows(self):
        """What is seen: lines wrap, and a return goes to the beginning of the last row alone."""
        self.read()
        rows, column = [""], 0
        for character in self.text:
            if character == "\r":
                column = 0
            elif character == "\n":
                rows.append("")
            else:
                if column == self.columns:
                    rows.append("")
                    column = 0
                rows[-1] = rows[-1][:column].ljust(column) + character + rows[-1][column + 1 :]
                column += 1
        return [row.rstrip() for row in rows]


@pytest.fixture
def terminal():
    """Makes terminals: `terminal(80)`."""
    made = []

    def make(columns, rows=24):
        made.append(Terminal(columns, rows))
        return made[-1]

    yield make
    for each in made:
        each.close()


def _step():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    return loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1), metrics=["mae"])


def _begun(file, steps=1200, **options):
    """A bar in the second of 15 epochs."""
    bar = loops.ProgressBar(file, **options)
    bar.set_params({"epochs": 15, "steps": steps})
    bar.on_epoch_begin(1)
    return bar


def _values(*losses):
    return {"loss": np.array(losses, "float32"), "accuracy": np.full(len(losses), 0.75, "float32")}


LOGS = {"loss": 0.25, "accuracy": 0.5, "val_loss": 0.125, "val_accuracy": 0.75}
SHOWN = "loss=0.2500 accuracy=0.5000 val_loss=0.1250 val_accuracy=0.7500"


# -- without a terminal ------------------------------------------------------------------------------------


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


def test_a_long_epoch_gives_a_line_from_time_to_time(clock):
    screen = io.StringIO()
    bar = _begun(screen, every_seconds=10)
    for number in range(6):
        clock.now += 4
        bar.on_train_steps_end(2 * number + 1, _values(1.0, 2.0))
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


def test_standard_error_by_default(capsys):
    loops.train(_step(), loops.Batches(X, Y, 4), epochs=1, callbacks=[loops.ProgressBar()])
    captured = capsys.readouterr()
    assert captured.err.startswith("Epoch 1/1: 3/3 [") and captured.out == ""


def test_logs_that_are_no_numbers_are_shown_as_they_are():
    told = {"loss": 0.5, "note": "a", "each": np.ones(2), "best": None}
    assert details(Progress("Epoch 1/1", 1, 1, 1.0, None, told, over=True)).endswith(
        "loss=0.5000 note=a each=[1. 1.] best=None"
    )


def test_a_skipped_step_does_not_blank_the_means():
    screen = io.StringIO()
    bar = _begun(screen)
    bar.on_train_steps_end(1, {"loss": np.array([1.0, np.nan, 3.0], "float32")})
    bar.on_train_end()
    assert screen.getvalue().endswith(" loss=2.000\n")


def test_the_largest_is_shown_of_what_is_recorded_as_such():
    screen = io.StringIO()
    bar = _begun(screen)
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
    bar = _begun(screen, every_seconds=1e-9)
    bar.on_train_steps_end(1, _values(1.0))
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


# -- in a terminal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("steps", [1200, None])
def test_a_line_is_drawn_again_and_the_epochs_stay(clock, terminal, columns, steps):
    terminal = terminal(columns)
    bar = _begun(terminal.file, steps)
    drawn = [terminal.rows()[-1]]
    for number in range(4):
        clock.now += 0.2
        bar.on_train_steps_end(150 * number + 1, _values(*[0.5] * 150))
        drawn.append(terminal.rows()[-1])
    assert len(terminal.rows()) == 1 and all(len(line) < columns for line in drawn)
    assert all("loss=0.5000" in line for line in drawn[1:])
    if columns >= 80:
        assert all("accuracy=0.7500" in line and "750/s" in line for line in drawn[2:])
        assert steps is None or all("|" in line and "<00:" in line for line in drawn[2:])
    clock.now += 1
    bar.on_test_begin()
    clock.now += 1
    bar.on_test_steps_end(20, 80)
    assert terminal.rows()[-1].startswith("Epoch 2/15 validation:  25%")
    bar.on_epoch_end(1, LOGS)
    rows = terminal.rows()
    ended = f"Epoch 2/15: 600{'/1200' if steps else ' steps'} [00:02, 750 steps/s] {SHOWN}"
    width = -(-len(ended) // columns)
    assert rows == [*(ended[columns * n : columns * (n + 1)].rstrip() for n in range(width)), ""]
    bar.on_train_end()
    assert terminal.read() == ""


def test_ten_drawings_a_second_at_most(clock, terminal):
    terminal = terminal(80)
    bar = _begun(terminal.file)
    for number in range(1000):
        clock.now += 0.001
        bar.on_train_steps_end(number + 1, _values(0.5))
    assert 10 <= terminal.read().count("Epoch") <= 11


def test_epochs_of_a_moment_are_lines_alone(clock, terminal):
    terminal = terminal(80)
    bar = _begun(terminal.file, 1)
    for epoch in range(1, 50):
        if epoch > 1:
            bar.on_epoch_begin(epoch)
        clock.now += 0.001
        bar.on_train_steps_end(epoch, _values(0.5))
        bar.on_epoch_end(epoch, {"loss": 0.5})
    assert terminal.read().count("Epoch") == 50  # one drawing, and 49 lines


def test_a_terminal_without_a_size(clock, terminal):
    terminal = terminal(0, rows=0)
    bar = _begun(terminal.file)
    clock.now += 1
    bar.on_train_steps_end(1, _values(1.0))
    assert terminal.rows()[-1].startswith("Epoch 2/15:   0%|") and len(terminal.rows()[-1]) <= 79


def test_what_others_write_stands_above_it(clock, terminal):
    terminal = terminal(80)
    bar = _begun(terminal.file)
    progress_display.terminal_tqdm.write("unfrozen", file=terminal.file)
    assert [row[:11] for row in terminal.rows()] == ["unfrozen", "Epoch 2/15:"]
    bar.on_train_end()


def test_braces_in_a_name_are_no_format():
    odd = Progress("a {b}", 1, 2, 1.0, 1.0, {"{c}": 1.0})
    assert fitting_line(odd, 80).format(bar="##") == "a {b}:  50%|##| 1/2 [00:01<00:01, 1/s] {c}=1.000"
    assert whole_line(odd) == "a {b}: 1/2 [00:01<00:01, 1 steps/s] {c}=1.000"


# -- in a notebook -----------------------------------------------------------------------------------------


class Widget:
    def __init__(self, children=(), **values):
        self.children, self.value, self.bar_style = children, 0, ""
        self.layout = self.style = types.SimpleNamespace(width=None)
        vars(self).update(values)

    def close(self):
        pass


def _plain(text):
    """What is seen of a text that tqdm wrote as HTML."""
    return html.unescape(text).replace("\u2007", " ").strip()


def test_a_notebook_shows_a_widget_for_each_epoch(clock, monkeypatch):
    """With stand-ins for `ipywidgets`, of which tqdm takes three."""
    from tqdm import notebook

    shown = []
    for name in ("HTML", "IProgress", "HBox"):
        monkeypatch.setattr(notebook, name, Widget, raising=False)
    monkeypatch.setattr(notebook, "TqdmHBox", Widget)
    monkeypatch.setattr(notebook, "display", shown.append, raising=False)
    monkeypatch.setattr(progress_display.auto, "tqdm", notebook.tqdm_notebook)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = _begun(None, 4)
    clock.now += 1
    bar.on_train_steps_end(1, _values(1.0, 2.0))
    (widget,) = shown
    left, progress, right = widget.children
    assert (progress.max, progress.value) == (4, 2) and _plain(left.value) == "Epoch 2/15:"
    assert _plain(right.value) == "2/4 [00:01<00:01, 2 steps/s] loss=1.500 accuracy=0.7500"
    clock.now += 1
    bar.on_train_steps_end(3, _values(1.0, 2.0))
    bar.on_test_begin()
    clock.now += 1
    bar.on_test_steps_end(1, 4)
    assert _plain(left.value) == "Epoch 2/15 validation:" and progress.value == 4
    bar.on_epoch_end(1, LOGS)
    assert _plain(left.value) == "Epoch 2/15:" and progress.bar_style == "success"
    assert _plain(right.value).startswith("4/4 [00:03, 2 steps/s] loss=0.2500 accuracy=0.5000 val_loss")
    bar.on_epoch_begin(2)
    clock.now += 1
    bar.on_train_end()
    assert len(shown) == 2
