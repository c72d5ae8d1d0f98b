"""Displays of progress: a line in a terminal, a widget in a notebook, or lines in a log file."""

from __future__ import annotations

import abc
import math
import os
import time
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm as terminal_tqdm

from .progress_text import Progress, details, fitting_line, whole_line

with warnings.catch_warnings():
    # Without `ipywidgets`, tqdm warns in a notebook when it is imported; the display is a line there.
    warnings.filterwarnings("ignore", "IProgress not found")
    from tqdm import auto


class Display(abc.ABC):
    """Shows the progress of an epoch, at most once every `every_seconds`."""

    every_seconds = 0.1
    _last_shown = -math.inf  # time of the last drawing

    def show(self, progress: Callable[[], Progress]) -> None:
        """Calls `progress` and shows the result, if `every_seconds` have passed."""
        now = time.monotonic()
        if now - self._last_shown >= self.every_seconds:
            self._last_shown = now
            self._draw(progress())

    @abc.abstractmethod
    def _draw(self, progress: Progress) -> None:
        """Shows the progress now."""

    @abc.abstractmethod
    def end(self, progress: Progress) -> None:
        """Shows the final progress of an epoch, which stays visible."""


def make_display(file: TextIO | None, standard: TextIO, every_seconds: float) -> Display:
    """Makes the display for a file; without one, for the notebook or the file `standard`."""
    if file is None and any(kind.__name__ == "tqdm_notebook" for kind in auto.tqdm.__mro__):
        return NotebookDisplay()
    file = file or standard
    # The output of a notebook's kernel follows "\r", as a terminal does.
    if file.isatty() or type(file).__module__.startswith("ipykernel."):
        return TerminalDisplay(file)
    return LogDisplay(file, every_seconds)


class TerminalDisplay(Display):
    """A line that is redrawn; it is a tqdm, so `tqdm.write` prints above it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._bar: Any = None  # a tqdm, while a line is drawn

    def _draw(self, progress: Progress) -> None:
        # Some terminals begin a new line when the last column is written.
        columns = max(_columns(self._file) - 1, 1)
        text = _writable(fitting_line(progress, columns), self._file)
        line: dict[str, Any] = {"ncols": columns, "bar_format": text, "total": progress.total}
        if self._bar is None:  # it draws itself
            self._bar = terminal_tqdm(file=self._file, initial=progress.done, nrows=24, leave=False, **line)
        else:
            vars(self._bar).update(line, n=progress.done)
            self._bar.refresh()

    def end(self, progress: Progress) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        # The final line may wrap, so no value is cut; it is not redrawn.
        terminal_tqdm.write(_writable(whole_line(progress), self._file), file=self._file)


class NotebookDisplay(Display):
    """A widget for each epoch."""

    def __init__(self) -> None:
        self._bar: Any = None  # a tqdm, between the first drawing of an epoch and its end

    def end(self, progress: Progress) -> None:
        self._draw(progress)
        self._bar.close()
        self._bar = None

    def _draw(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = auto.tqdm(total=progress.total, desc=progress.label, dynamic_ncols=True)
        # Validation is text beside the bar of its epoch, which is full then.
        self._bar.n = progress.done if progress.label == self._bar.desc else self._bar.total or self._bar.n
        words = f"{progress.label}: {{bar}} {details(progress)}".replace
        self._bar.bar_format = words("{", "{{").replace("}", "}}").replace("{{bar}}", "{bar}")
        self._bar.refresh()


class LogDisplay(Display):
    """Lines in a file or a pipe: one every `every_seconds`, and one at the end of each epoch."""

    def __init__(self, file: TextIO, every_seconds: float) -> None:
        self._file = file
        self.every_seconds = every_seconds
        self._last_shown = time.monotonic()

    def _draw(self, progress: Progress) -> None:
        print(_writable(whole_line(progress), self._file), file=self._file, flush=True)

    def end(self, progress: Progress) -> None:
        self._last_shown = time.monotonic()
        self._draw(progress)


def _writable(text: str, file: TextIO) -> str:
    r"""A text with the letters that the file's encoding lacks as escapes such as `\xe4`."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _columns(file: TextIO) -> int:
    """The width of a terminal; 80 if it reports none, as in some containers."""
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80
