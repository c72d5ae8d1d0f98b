"""Several processes: two workers give one device's numbers; parameter servers learn and lose no update."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


def ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


@contextlib.contextmanager
def tasks(program, cluster, *arguments):
    """Starts one process for each task of a cluster: (type, index) -> process."""
    started = {}
    try:
        for kind, addresses in cluster.items():
            for index in range(len(addresses)):
                config = {"cluster": cluster, "task": {"type": kind, "index": index}}
                started[kind, index] = subprocess.Popen(
                    [sys.executable, str(PROGRAMS / program), *map(str, arguments)],
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.communicate()


@pytest.mark.numbers
@pytest.mark.parametrize("which", ["two", pytest.param("all", marks=pytest.mark.release)])
def test_two_workers_are_one_device(which, tmp_path):
    with tasks("two_workers.py", {"worker": ports(2)}, tmp_path, which) as started:
        ends = [process.communicate(timeout=400) for process in started.values()]
    for process, (out, err) in zip(started.values(), ends):
        assert process.returncode == 0, err[-3000:]
        assert out.endswith("done\n")
    goes_on = [re.findall("Training goes on at epoch 2 after 2 of its batches", out) for out, _ in ends]
    assert list(map(len, goes_on)) == [1, 0], "one worker tells"


@pytest.mark.release
def test_parameter_servers(tmp_path):
    cluster = {"chief": ports(1), "ps": ports(1), "worker": ports(2)}
    with tasks("parameter_servers.py", cluster, tmp_path) as started:
        chief = started["chief", 0]
        line = chief.stdout.readline()
        if line == "kill worker 1\n":
            started["worker", 1].send_signal(signal.SIGKILL)
            time.sleep(0.1)
        out, err = chief.communicate("killed\n", timeout=400)
    assert chief.returncode == 0, err[-3000:]
    assert (line, out) == ("kill worker 1\n", "done\n")
