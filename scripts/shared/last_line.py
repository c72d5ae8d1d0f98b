"""The last line of a program's output, which usually says why it ended."""

from __future__ import annotations


def last_line(text: str) -> str:
    """The last line that is not blank, or ''; each state of a progress bar counts as a line.

    Example:
        >>> last_line("Epoch 1\\rEpoch 2\\n")
        'Epoch 2'
    """
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "")
