"""TF_CONFIG: read, checked, and whether this process is the chief."""

import json
import socket
import threading
import time

import pytest

from gradloop import loops
from gradloop.loops.distribute import cluster as cluster_module
from gradloop.loops.distribute.cluster import Cluster

TWO = {"worker": ["127.0.0.1:2222", "127.0.0.1:2223"]}


@pytest.fixture
def config(monkeypatch):
    def set_to(value):
        monkeypatch.setenv("TF_CONFIG", value if isinstance(value, str) else json.dumps(value))

    return set_to


def task(kind="worker", index=0, tasks=TWO):
    return {"cluster": tasks, "task": {"type": kind, "index": index}}


@pytest.mark.parametrize("text", ["", "  ", "{}", '{"cluster": {}}'])
def test_no_cluster(config, text):
    config(text)
    assert Cluster.from_environment() is None
    assert loops.is_chief()


def test_read(config):
    config(task(index="1"))
    found = Cluster.from_environment()
    assert found == Cluster(TWO, "worker", 1)
    assert found.address == "127.0.0.1:2223"
    assert sum(map(len, found.tasks.values())) == 2
    assert found.others() == {"worker 0": "127.0.0.1:2222"}


@pytest.mark.parametrize(
    "kind, index, chief",
    [("worker", 0, True), ("worker", 1, False)],
)
def test_the_first_worker_is_the_chief(config, kind, index, chief):
    config(task(kind, index))
    assert loops.is_chief() is chief


@pytest.mark.parametrize("kind, chief", [("chief", True), ("worker", False), ("ps", False)])
def test_a_chief_is_the_chief(config, kind, chief):
    tasks = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"], "evaluator": ["d:1"]}
    config(task(kind, 0, tasks))
    assert loops.is_chief() is chief
    assert "evaluator 0" not in Cluster.from_environment().others()


def test_the_joined_cluster_goes_before_the_environment(monkeypatch):
    monkeypatch.setattr(cluster_module, "_joined", [])
    Cluster(TWO, "worker", 1).join()
    assert not loops.is_chief()


class Resolver:
    task_type, task_id = "worker", 1

    def cluster_spec(self):
        import tensorflow as tf

        return tf.train.ClusterSpec(TWO)


def test_from_a_resolver():
    assert Cluster.from_resolver(Resolver()) == Cluster(TWO, "worker", 1)


@pytest.mark.parametrize(
    "value, message",
    [
        ("{", "TF_CONFIG is no JSON"),
        ("[1]", "TF_CONFIG is no JSON object"),
        ({"cluster": ["a:1"]}, "does not map kinds of tasks to lists"),
        ({"cluster": {"worker": []}}, "does not map kinds of tasks to lists"),
        ({"cluster": {"slave": ["a:1"]}}, "with a 'slave': there are chief, worker, ps, evaluator"),
        (task(tasks={"worker": ["somewhere"]}), "the address 'somewhere' for a worker: wanted host:port"),
        (task(tasks={"worker": ["a:99999"]}), "wanted host:port"),
        (task(tasks={"worker": [7]}), "wanted host:port"),
        ({"cluster": TWO}, 'no "task" with a "type" and an "index"'),
        (task("worker", 2), "this task is worker 2, but its cluster has worker 0 to 1"),
        (task("ps", 0), "this task is ps 0, but its cluster has worker 0 to 1"),
        (task(["worker"], 0), "but its cluster has worker 0 to 1"),
        (task("worker", True), "this task is worker True"),
    ],
)
def test_malformed(config, value, message):
    config(value)
    with pytest.raises(ValueError, match="A right one: TF_CONFIG=") as caught:
        Cluster.from_environment()
    assert message in str(caught.value)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        here = Cluster({"worker": [f"127.0.0.1:{port}"]}, "worker", 0)
        message = rf"port {port}, which TF_CONFIG gives this task \(worker 0.*taken by another process"
        with pytest.raises(ValueError, match=message):
            with here.listening():
                pass
    with here.listening():
        pass


def test_waits_for_a_late_one_and_names_one_that_never_comes():
    ports = [free_port(), free_port()]
    here = Cluster({"worker": [f"127.0.0.1:{port}" for port in ports]}, "worker", 0)
    there = Cluster(here.tasks, "worker", 1)
    with pytest.raises(TimeoutError, match=rf"^worker 1 at 127.0.0.1:{ports[1]} did not start within 0.3 s"):
        here.wait_for_others(0.3)

    def late():
        time.sleep(0.3)
        with there.listening():
            there.wait_for_others(20)
            time.sleep(0.5)

    thread = threading.Thread(target=late)
    thread.start()
    with here.listening():
        here.wait_for_others(20)
        thread.join()
