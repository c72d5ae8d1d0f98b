"""Where progress is shown: on a line of a terminal, in a notebook, or as lines of a log."""

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
    # In a notebook without `ipywidgets` it warns, as soon as gradloop is imported; there are lines there.
    warnings.filterwarnings("ignore", "IProgress not found")
    from tqdm import auto


class Display(abc.ABC):
    """Shows how far an epoch is, once in so many seconds."""

    every_seconds = 0.1
    _shown = -math.inf  # when

    def show(self, progress: Callable[[], Progress]) -> None:
        """Asks for the progress and shows it, if it is time."""
        now = time.monotonic()
        if now - self._shown >= self.every_seconds:
            self._shown = now
            self._draw(progress())

    @abc.abstractmethod
    def _draw(self, progress: Progress) -> None:
        """Shows the progress now."""

    @abc.abstractmethod
    def end(self, progress: Progress) -> None:
        """Shows how far an epoch came, which stays."""


def display_on(file: TextIO | None, standard: TextIO, every_seconds: float) -> Display:
    """What shows progress on a file; where there is none, in the notebook, or on `standard`."""
    if file is None and any(kind.__name__ == "tqdm_notebook" for kind in auto.tqdm.__mro__):
        return NotebookDisplay()
    file = file or standard
    # A notebook without widgets shows what its kernel writes, and follows "\r".
    if file.isatty() or type(file).__module__.startswith("ipykernel."):
        return TerminalDisplay(file)
    return LogDisplay(file, every_seconds)


class TerminalDisplay(Display):
    """A line that is drawn again: a tqdm, so that what `tqdm.write` writes meanwhile stands above it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._bar: Any = None  # a tqdm, while a line is drawn

    def _draw(self, progress: Progress) -> None:
        # Where the last column is written, some terminals begin a new line.
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
        # This line may wrap, so that it loses no value; it is never drawn over.
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
        # Validation is told in words, beside the bar of its epoch, which is full then.
        self._bar.n = progress.done if progress.label == self._bar.desc else self._bar.total or self._bar.n
        words = f"{progress.label}: {{bar}} {details(progress)}".replace
        self._bar.bar_format = words("{", "{{").replace("}", "}}").replace("{{bar}}", "{bar}")
        self._bar.refresh()


class LogDisplay(Display):
    """Whole lines, as a file or a pipe keeps all of them: one in so many seconds, and one for each epoch."""

    def __init__(self, file: TextIO, every_seconds: float) -> None:
        self._file = file
        self.every_seconds = every_seconds
        self._shown = time.monotonic()

    def _draw(self, progress: Progress) -> None:
        print(_writable(whole_line(progress), self._file), file=self._file, flush=True)

    def end(self, progress: Progress) -> None:
        self._shown = time.monotonic()
        self._draw(progress)


def _writable(text: str, file: TextIO) -> str:
    r"""What a file can hold of a name that its encoding lacks letters for: `\xe4` for them."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _columns(file: TextIO) -> int:
    """Of a terminal; 80 where it has no size, as in some containers."""
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80
