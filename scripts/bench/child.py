"""Starts a child process of the benchmark, and reads its result: JSON in the last line of its output."""

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


def exit_reason(process: subprocess.Popen[Any], errors: str) -> str:
    """The exit status of a process, and the last line of its standard error."""
    code, last = process.returncode, last_line(errors)
    how = f"killed by signal {-code}" if code and code < 0 else f"exit status {code}"
    return f"{how}: {last}" if last else how


def start(python: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Starts Python in the folder of the scripts, with more environment variables."""
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
    """Waits for a process and returns its JSON.

    Raises:
        RuntimeError: if it fails; the message is `exit_reason`.
    """
    try:
        out, errors = process.communicate(timeout=3600)
    finally:
        process.kill()  # if the wait was interrupted
    if process.returncode:
        raise RuntimeError(exit_reason(process, errors))
    return json.loads(last_line(out))


def peak_memory() -> int:
    """The peak memory of this process so far, in bytes.

    On Linux this is VmHWM of proc(5). `getrusage` would include the peak of the parent process: its count
    survives `exec`.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "VmHWM":
                return int(value.split()[0]) * 1024
    # macOS counts in bytes, others in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
