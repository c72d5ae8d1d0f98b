"""Addresses for the tasks of a cluster on this machine."""

from __future__ import annotations

import contextlib
import socket


def cluster(workers: int, parameter_servers: int) -> dict[str, list[str]]:
    """The addresses of all tasks, on ports that are free now."""
    counts = {"worker": workers}
    if parameter_servers:
        counts = {"chief": 1, "worker": workers, "ps": parameter_servers}
    with contextlib.ExitStack() as open_sockets:
        # All are held until all are found, so that no port comes twice.
        def address() -> str:
            found = open_sockets.enter_context(socket.socket())
            found.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{found.getsockname()[1]}"

        return {kind: [address() for _ in range(count)] for kind, count in counts.items()}
