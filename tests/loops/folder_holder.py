"""A process that holds a folder, as `FolderLock` does, until it is killed or its input ends."""

import subprocess
import sys

from gradloop.loops.support import folder_lock

HOLD = f"""
import runpy, sys  # the file alone, as the package imports TensorFlow
lock = runpy.run_path({folder_lock.__file__!r})["FolderLock"](sys.argv[1], kind=sys.argv[2])
print("held", flush=True)
if sys.argv[3:] and __import__("os").fork() == 0:
    print(__import__("os").getpid(), flush=True)
    __import__("time").sleep(60)
sys.stdin.read()
"""


def holder(folder, kind="TensorBoard", *more):
    """Starts one; with `more` it starts another that inherits the lock, and prints its number."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, kind, *more], stdin=pipe, stdout=pipe, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process
