"""The processes that train together, as the environment variable TF_CONFIG lists them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
import time
from collections.abc import Iterator

import tensorflow as tf

_KINDS = ("chief", "worker", "ps", "evaluator")
_EXAMPLE = (
    """'{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, """
    """"task": {"type": "worker", "index": 0}}'"""
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The tasks of a cluster, and which one this process is.

    Args:
        tasks: kind of task ("chief", "worker", "ps") -> addresses, `host:port` each.
        kind, index: of this process' task.
    """

    tasks: dict[str, list[str]]
    kind: str
    index: int

    @classmethod
    def from_environment(cls) -> Cluster | None:
        """Reads TF_CONFIG; None where it is not set or names no cluster, ValueError where it is malformed."""
        text = os.environ.get("TF_CONFIG", "").strip()
        if not text:
            return None
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise _malformed(f"is no JSON ({error})") from None
        if not isinstance(config, dict):
            raise _malformed("is no JSON object")
        if not config.get("cluster"):
            return None
        tasks, task = config["cluster"], config.get("task")
        if not isinstance(tasks, dict) or not all(isinstance(some, list) and some for some in tasks.values()):
            raise _malformed('has a "cluster" that does not map kinds of tasks to lists of addresses')
        strange = [kind for kind in tasks if kind not in _KINDS]
        if strange:
            raise _malformed(f'has a "cluster" with a {strange[0]!r}: there are {", ".join(_KINDS)}')
        for kind, addresses in tasks.items():
            for address in addresses:
                if not _is_address(address):
                    raise _malformed(f"has the address {address!r} for a {kind}: wanted host:port")
        if not isinstance(task, dict) or "type" not in task or "index" not in task:
            raise _malformed('has no "task" with a "type" and an "index"')
        kind, index = task["type"], task["index"]
        if isinstance(index, str) and index.isdigit():  # as some cluster managers write it
            index = int(index)
        known = tasks.get(kind, []) if isinstance(kind, str) else []
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(known):
            raise _malformed(f"says that this task is {kind} {index!r}, but its cluster has {_counts(tasks)}")
        return cls({name: list(addresses) for name, addresses in tasks.items()}, kind, index)

    @classmethod
    def from_resolver(cls, resolver: tf.distribute.cluster_resolver.ClusterResolver) -> Cluster:
        """Asks one of `tf.distribute.cluster_resolver`."""
        spec = resolver.cluster_spec()  # first, as some find their task by it
        kind, index = resolver.task_type, resolver.task_id
        tasks = {name: list(addresses) for name, addresses in spec.as_dict().items()}
        return cls(tasks, kind, int(index or 0))

    def join(self) -> None:
        """Records that this process belongs to the cluster, which in TensorFlow is final."""
        _joined[:] = [self]

    @property
    def address(self) -> str:
        return self.tasks[self.kind][self.index]

    @property
    def is_chief(self) -> bool:
        first = (self.kind, self.index) == ("worker", 0)
        return self.kind == "chief" or (first and "chief" not in self.tasks)

    def others(self) -> dict[str, str]:
        """The other tasks, evaluators aside: "worker 1" -> address."""
        return {
            f"{kind} {index}": address
            for kind, addresses in self.tasks.items()
            for index, address in enumerate(addresses)
            if (kind, index) != (self.kind, self.index) and kind != "evaluator"
        }

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listens on this task's port in the body, so that others see that the task has started.

        Raises:
            ValueError: another process has it.
        """
        port = int(self.address.rpartition(":")[2])
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                taken = error.errno == errno.EADDRINUSE
                raise ValueError(
                    f"port {port}, which TF_CONFIG gives this task ({self.kind} {self.index}, "
                    f"{self.address}), {'is taken by another process' if taken else 'is not permitted'}: "
                    "choose another for it, in the TF_CONFIG of every task."
                ) from None
            listener.listen(128)
            yield

    def wait_for_others(self, timeout: float) -> None:
        """Waits until every other task has started; TimeoutError names those that have not in `timeout` s."""
        missing, end = self.others(), time.monotonic() + timeout
        while True:
            missing = {task: address for task, address in missing.items() if not _answers(address)}
            if not missing:
                return
            if time.monotonic() > end:
                named = ", ".join(f"{task} at {address}" for task, address in missing.items())
                raise TimeoutError(
                    f"{named} did not start within {timeout:g} seconds, so {self.kind} {self.index} cannot: "
                    "look at its output, its TF_CONFIG and whether its port can be reached from here; "
                    "`timeout=...` waits longer."
                )
            time.sleep(0.1)


# The cluster that this process has joined: one at most.
_joined: list[Cluster] = []


def is_chief() -> bool:
    """Whether this process is the one to write files and to print.

    True unless it is another task of its cluster than the chief or, where there is no chief, worker 0. The
    cluster is the one that `loops.strategy` joined or, before, that in TF_CONFIG.

    Raises:
        ValueError: TF_CONFIG is malformed.

    Example:
        >>> from gradloop import loops
        >>> loops.is_chief()
        True
    """
    cluster = _joined[0] if _joined else Cluster.from_environment()
    return cluster is None or cluster.is_chief


def _malformed(how: str) -> ValueError:
    return ValueError(f"the environment variable TF_CONFIG {how}. A right one: TF_CONFIG={_EXAMPLE}")


def _is_address(address: object) -> bool:
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def _counts(tasks: dict[str, list[str]]) -> str:
    return ", ".join(f"{kind} 0 to {len(addresses) - 1}" for kind, addresses in tasks.items())


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
            return True
    except OSError:
        return False
