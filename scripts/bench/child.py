"""A process of the benchmark's own, which prints what it found as JSON in its last line, and its memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

from shared.last_line import last_line

Json: TypeAlias = dict[str, Any]  # an object, as the `json` module reads it
SCRIPTS = Path(__file__).resolve().parents[1]
STATUS = Path("/proc/self/status")


def how_it_ended(process: subprocess.Popen[Any], errors: str) -> str:
    """The status of a process that has ended, and the last line of its standard error."""
    code, last = process.returncode, last_line(errors)
    how = f"killed by signal {-code}" if code and code < 0 else f"exit status {code}"
    return f"{how}: {last}" if last else how


def start(python: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Starts Python where it finds this package, with more environment variables."""
    if os.sep in python:
        python = os.path.abspath(python)  # it may be relative to this process's folder
    return subprocess.Popen(
        [python, *arguments],
        cwd=SCRIPTS,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str]) -> Any:
    """Waits for a process and reads its JSON, which the caller knows the form of.

    Raises:
        RuntimeError: if it fails; the message is `how_it_ended`.
    """
    try:
        out, errors = process.communicate(timeout=3600)
    finally:
        process.kill()  # where the wait was cut short
    if process.returncode:
        raise RuntimeError(how_it_ended(process, errors))
    return json.loads(last_line(out))


def peak_memory() -> int:
    """Bytes that this process held in memory at its peak, so far.

    On Linux this is VmHWM of proc(5). `getrusage` would tell no less than what the process that started this
    one held: its count outlives `exec`.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
    # macOS counts in bytes, others in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
