"""Where a progress bar is drawn: a terminal's last line, or a notebook's widgets."""

import fcntl
import html
import io
import os
import pty
import runpy
import struct
import sys
import termios
import types
import warnings

import pytest

from gradloop.loops.callbacks import progress_display
from tests.loops.callbacks.progress import LOGS, SHOWN, begun, step_values


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


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("steps", [1200, None])
def test_a_line_is_drawn_again_and_the_epochs_stay(clock, terminal, columns, steps):
    terminal = terminal(columns)
    bar = begun(terminal.file, steps)
    drawn = [terminal.rows()[-1]]
    for number in range(4):
        clock.now += 0.2
        bar.on_train_steps_end(150 * number + 1, step_values(*[0.5] * 150))
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
    bar = begun(terminal.file)
    for number in range(1000):
        clock.now += 0.001
        bar.on_train_steps_end(number + 1, step_values(0.5))
    assert 10 <= terminal.read().count("Epoch") <= 11


def test_epochs_of_a_moment_are_lines_alone(clock, terminal):
    terminal = terminal(80)
    bar = begun(terminal.file, 1)
    for epoch in range(1, 50):
        if epoch > 1:
            bar.on_epoch_begin(epoch)
        clock.now += 0.001
        bar.on_train_steps_end(epoch, step_values(0.5))
        bar.on_epoch_end(epoch, {"loss": 0.5})
    assert terminal.read().count("Epoch") == 50  # one drawing, and 49 lines


def test_a_terminal_without_a_size(clock, terminal):
    terminal = terminal(0, rows=0)
    bar = begun(terminal.file)
    clock.now += 1
    bar.on_train_steps_end(1, step_values(1.0))
    assert terminal.rows()[-1].startswith("Epoch 2/15:   0%|") and len(terminal.rows()[-1]) <= 79


def test_what_others_write_stands_above_it(clock, terminal):
    terminal = terminal(80)
    bar = begun(terminal.file)
    progress_display.terminal_tqdm.write("unfrozen", file=terminal.file)
    assert [row[:11] for row in terminal.rows()] == ["unfrozen", "Epoch 2/15:"]
    bar.on_train_end()


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
    bar = begun(None, 4)
    clock.now += 1
    bar.on_train_steps_end(1, step_values(1.0, 2.0))
    (widget,) = shown
    left, progress, right = widget.children
    assert (progress.max, progress.value) == (4, 2) and _plain(left.value) == "Epoch 2/15:"
    assert _plain(right.value) == "2/4 [00:01<00:01, 2 steps/s] loss=1.500 accuracy=0.7500"
    clock.now += 1
    bar.on_train_steps_end(3, step_values(1.0, 2.0))
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


def test_a_notebook_without_widgets_is_not_warned_at_the_import(monkeypatch):
    from tqdm import notebook

    for name in ("ipykernel.zmqshell", "IPython"):  # by which versions of tqdm know one
        shell = types.SimpleNamespace(config={"IPKernelApp": {}})
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(get_ipython=lambda shell=shell: shell))
    monkeypatch.delenv("QT_API", raising=False)
    monkeypatch.setattr(notebook, "IProgress", None)
    monkeypatch.delattr("tqdm.auto")
    for name in ("tqdm.auto", "tqdm.autonotebook"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with warnings.catch_warnings(record=True) as told:  # an error would tqdm keep to itself
        warnings.simplefilter("always")
        runpy.run_path(progress_display.__file__, run_name=progress_display.__name__)
    assert "tqdm.autonotebook" in sys.modules and not told
