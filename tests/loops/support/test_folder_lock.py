"""One writer at a time in a folder."""

import os
import signal
import subprocess
import sys

import pytest

from gradloop.loops.support import folder_lock
from gradloop.loops.support.folder_lock import FolderLock

HOLD = f"""
import runpy, sys  # the file alone, as the package imports TensorFlow
lock = runpy.run_path({folder_lock.__file__!r})["FolderLock"](sys.argv[1])
print("held", flush=True)
if sys.argv[2:] and __import__("os").fork() == 0:
    print(__import__("os").getpid(), flush=True)
    __import__("time").sleep(60)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def _holder(folder, *more):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, *more], stdin=pipe, stdout=pipe, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_within_a_process(folder):
    lock = FolderLock(folder)
    with pytest.raises(
        ValueError, match="`log_dir` '.*' is being written by another `TensorBoard` of this .*"
    ):
        FolderLock(folder)
    lock.release()
    lock.release()
    assert os.listdir(folder) == []
    FolderLock(folder).release()


def test_of_another_process_until_it_is_killed(folder):
    process = _holder(folder)
    match = (
        rf"`log_dir` '.*' is being written by process {process.pid} on \S+ since 20\S+ \S+: choose another"
    )
    with pytest.raises(ValueError, match=match):
        FolderLock(folder)
    process.kill()
    process.communicate()
    lock = FolderLock(folder)
    lock.release()
    assert os.listdir(folder) == []


def test_a_process_that_outlives_the_one_that_died(folder):
    """It inherited the lock when it was forked."""
    process = _holder(folder, "fork")
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    try:
        lock = FolderLock(folder)
        with pytest.raises(ValueError, match="of this process"):
            FolderLock(folder)
        lock.release()
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_where_there_are_no_locks(folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    FolderLock(folder).release()
    FolderLock("ram://somewhere").release()
