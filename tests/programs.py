"""Programs that need a process of their own: they make logical devices, or are the workers of a cluster.

To import TensorFlow takes seconds. So a server imports it once, and each program begins as a copy of the
server, in which nothing of TensorFlow has started yet.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

SERVER = multiprocessing.get_context(
    "forkserver"
)  # for programs of ours that start processes themselves, too
SERVER.set_forkserver_preload(["gradloop.loops", "gradloop.models", "gradloop.optim"])


class Program:
    """Starts `python path arguments`: `Program(path, "all", folder=tmp_path).finish()`.

    Args:
        path: of the program.
        arguments: for its command line.
        folder: takes files of what it prints, in `stdout`, and of its errors.
        environment: more variables.
        within: the working directory.
    """

    def __init__(
        self,
        path: Path,
        *arguments: object,
        folder: Path,
        environment: dict[str, str] | None = None,
        within: Path | None = None,
    ):
        own = Path(tempfile.mkdtemp(dir=folder))
        self.stdout, self.stderr = own / "stdout", own / "stderr"
        argv = [str(path), *map(str, arguments)]
        self.process = SERVER.Process(
            target=_run,
            args=(argv, environment or {}, within or Path.cwd(), self.stdout, self.stderr),
            daemon=True,
        )
        self.process.start()

    def finish(self, timeout: float = 300, status: int = 0) -> str:
        """Waits until it ends with this status, and returns what it printed."""
        self.process.join(timeout)
        code = self.process.exitcode
        told = self.stderr.read_text()[-3000:]
        assert code == status, f"{'still running' if code is None else code}\n{told}"
        return self.stdout.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def leave_together(folder: Path, index: int, count: int) -> NoReturn:
    """The end of worker `index` of `count`: nobody leaves before all are done, and the chief leaves last.

    Who is connected to a worker that is gone may end with an error, while it reduces its last values or as it
    looks after the others; all are connected to the chief.
    """
    deadline = time.monotonic() + 120

    def told(what: str, workers: range) -> None:
        while not all((folder / f"{what}-{each}").exists() for each in workers):
            assert time.monotonic() < deadline, f"a worker is not {what}"
            time.sleep(0.01)

    (folder / f"done-{index}").touch()
    told("done", range(count))
    if index == 0:
        told("gone", range(1, count))
    sys.stdout.flush()
    (folder / f"gone-{index}").touch()
    os._exit(0)


def _run(argv: list[str], environment: dict[str, str], within: Path, stdout: Path, stderr: Path) -> None:
    for stream, path in ((1, stdout), (2, stderr)):
        with open(path, "w") as file:
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    os.chdir(within)
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))
    runpy.run_path(argv[0], run_name="__main__")
