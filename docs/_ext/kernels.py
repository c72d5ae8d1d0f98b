"""The processes that execute guides: copies of one in which TensorFlow is imported, but has not begun.

Its import takes seconds, and there are a dozen guides.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from sphinx.application import Sphinx

SERVER = multiprocessing.get_context("forkserver")
PRELOADED = [
    "gradloop.loops",
    "gradloop.models",
    "gradloop.optim",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
]


class Kernel:
    """A process as Jupyter asks for it, in the terms of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, process: ForkServerProcess) -> None:
        self.process = process
        self.poll = lambda: process.exitcode
        self.kill, self.terminate = process.kill, process.terminate

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, number)


def run(arguments: list[str], environment: dict[str, str], folder: str | None) -> None:
    from ipykernel.kernelapp import launch_new_instance

    os.environ.update(environment)
    os.chdir(folder or ".")
    launch_new_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])  # it ends with that


async def launch(self: LocalProvisioner, command: list[str], **options: Any) -> Any:
    # `python -m ipykernel_launcher -f FILE` and more
    arguments = command[command.index("ipykernel_launcher") + 1 :]
    process = SERVER.Process(target=run, args=(arguments, options["env"], options.get("cwd")), daemon=True)
    process.start()
    self.process, self.pid = Kernel(process), process.pid  # type: ignore[assignment]  # in a Popen's terms
    return self.connection_info


def setup(app: Sphinx) -> dict[str, bool]:
    SERVER.set_forkserver_preload(PRELOADED)
    # Jupyter finds classes of others in installed packages alone.
    LocalProvisioner.launch_kernel = launch  # type: ignore[assignment,method-assign]  # see above
    return {"parallel_read_safe": True, "parallel_write_safe": True}
