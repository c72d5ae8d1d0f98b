"""Several processes: two workers give one device's numbers; parameter servers learn and lose no update."""

import contextlib
import json
import socket
import time
from pathlib import Path

import pytest

from tests.programs import Program

PROGRAMS = Path(__file__).parent / "programs"


def ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


@contextlib.contextmanager
def tasks(program, cluster, folder, *more):
    """Starts one process for each task of a cluster: (type, index) -> process."""
    started = {}
    try:
        for kind, addresses in cluster.items():
            for index in range(len(addresses)):
                config = {"cluster": cluster, "task": {"type": kind, "index": index}}
                started[kind, index] = Program(
                    PROGRAMS / program,
                    folder,
                    *more,
                    folder=folder,
                    environment={"TF_CONFIG": json.dumps(config)},
                )
        yield started
    finally:
        for process in started.values():
            process.kill()


# The others are beside one device on two replicas, in `tests/loops/grid`.
@pytest.mark.numbers
@pytest.mark.parametrize(
    "which",
    [
        pytest.param("main", marks=[pytest.mark.release, pytest.mark.versions]),
        pytest.param("others", marks=pytest.mark.long),
    ],
)
def test_two_workers_are_one_device(which, tmp_path):
    with tasks("two_workers.py", {"worker": ports(2)}, tmp_path, which) as started:
        told = [process.finish(timeout=400) for process in started.values()]
    assert all(each.endswith("done\n") for each in told)
    if which == "others":
        return
    goes_on = [each.count("Training goes on at epoch 2 after 2 of its batches") for each in told]
    assert goes_on == [1, 0], "one worker tells"


@pytest.mark.release
def test_parameter_servers(tmp_path):
    cluster = {"chief": ports(1), "ps": ports(1), "worker": ports(2)}
    with tasks("parameter_servers.py", cluster, tmp_path) as started:
        chief = started["chief", 0]
        told = chief.stdout  # a file that is not there at first
        while chief.process.is_alive() and not (told.exists() and "kill worker 1\n" in told.read_text()):
            time.sleep(0.1)
        started["worker", 1].kill()
        (tmp_path / "killed").touch()
        assert chief.finish(timeout=400).endswith("kill worker 1\ndone\n")
