"""strategy: devices by name. Names that make devices run in processes of their own."""

import sys
from pathlib import Path

import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops import strategy as strategy_module  # the function, which hides its module
from tests.programs import Program

module = sys.modules[strategy_module.__module__]


@pytest.fixture(autouse=True)
def no_strategy_yet(monkeypatch):
    monkeypatch.setattr(module, "_made", [])
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("TPU_NAME", raising=False)


@pytest.mark.parametrize("spec", ["auto", "one"])
def test_names_of_one_device(spec):
    found = loops.strategy(spec)
    assert isinstance(found, tf.distribute.Strategy)
    assert found.num_replicas_in_sync == 1
    with found.scope():
        assert float(tf.Variable(1.0) + 1) == 2.0


def test_the_default_is_auto():
    assert loops.strategy() is loops.strategy("auto")


def test_a_strategy_is_returned():
    given = tf.distribute.OneDeviceStrategy("/cpu:0")
    assert loops.strategy(given) is given
    with given.scope():
        assert loops.strategy("auto") is given


@pytest.mark.parametrize("program", ["devices_made_on_the_spot.py", "devices_made_before.py"])
def test_logical_devices(program, tmp_path):
    Program(Path(__file__).parent / "programs" / program, folder=tmp_path).finish()


def test_too_late_for_logical_devices():
    tf.constant(1.0) + 1
    with pytest.raises(ValueError, match="asks for 3 logical CPU devices, and TensorFlow has started with 1"):
        loops.strategy("mirrored:cpu:3")
    assert loops.strategy("mirrored:cpu:1").num_replicas_in_sync == 1


def pretend_gpus(monkeypatch, *parts):
    """As if there were GPUs, each whole (None) or in so many parts; returns what strategies are given."""
    made = []
    cards = [None if number is None else [object()] * number for number in parts]
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(range(len(cards))))
    monkeypatch.setattr(tf.config, "get_logical_device_configuration", lambda card: cards[card])
    monkeypatch.setattr(
        tf.distribute,
        "MirroredStrategy",
        lambda devices, cross_device_ops: made.append((devices, type(cross_device_ops).__name__)),
    )
    monkeypatch.setattr(sys.modules["gradloop.loops.distribute.strategies"], "_made", [])
    return made


@pytest.mark.parametrize("spec, asked", [("mirrored", "asks for GPUs"), ("mirrored:64", "asks for 64 GPUs")])
def test_gpus_that_are_not_there(spec, asked, monkeypatch):
    pretend_gpus(monkeypatch)
    with pytest.raises(ValueError, match=f"`spec` {asked}, and TensorFlow sees none here: .*'mirrored:cpu"):
        loops.strategy(spec)


@pytest.mark.parametrize(
    "spec, cards, devices, reduction",
    [
        ("mirrored", (None, None), 2, "NoneType"),
        ("mirrored:1", (None, None), 1, "NoneType"),
        ("auto", (None, None), 2, "NoneType"),
        # Parts of one card, between which NCCL cannot reduce.
        ("mirrored:2", (2,), 2, "ReductionToOneDevice"),
        ("mirrored", (4,), 4, "ReductionToOneDevice"),
        ("auto", (2,), 2, "ReductionToOneDevice"),
    ],
)
def test_gpus_and_parts_of_them(spec, cards, devices, reduction, monkeypatch):
    made = pretend_gpus(monkeypatch, *cards)
    loops.strategy(spec)
    assert made == [([f"/gpu:{index}" for index in range(devices)], reduction)]


def test_more_parts_than_a_card_has(monkeypatch):
    pretend_gpus(monkeypatch, 2)
    with pytest.raises(ValueError, match="`spec` asks for 3 GPUs, and TensorFlow sees 2 here"):
        loops.strategy("mirrored:3")


@pytest.mark.parametrize(
    "spec, match",
    [
        ("on", "`spec` 'on' is no strategy: there are .* Did you mean 'one'?"),
        ("Auto", "Did you mean 'auto'?"),
        ("mirored", "Did you mean 'mirrored'?"),
        ("gpu", "Did you mean 'mirrored'?"),
        ("CPU", "Did you mean 'one'?"),
        ("mirrored:tpu:2", "is no strategy"),
        ("multiworker:pbs", "is no strategy"),
        ("mirrored:0", "ends in '0' where a number of devices is wanted"),
        ("mirrored:cpu:x", "ends in 'x' where a number of devices is wanted"),
        ("mirrored:cpu", "ends in '' where a number of devices|ends in 'cpu' where a number of devices"),
        (None, "`spec` None is no strategy"),
        (["one", "two"], "is no strategy"),
        ("multiworker", "needs a cluster, and the environment variable TF_CONFIG lists none"),
        ("parameter_server", "needs a cluster"),
        ("tpu", "TensorFlow sees none here: name one, 'tpu:NAME'"),
    ],
)
def test_bad_names(spec, match):
    with pytest.raises(ValueError, match=match):
        loops.strategy(spec)


def test_a_cluster_that_does_not_fit(monkeypatch):
    monkeypatch.setattr(sys.modules["gradloop.loops.distribute.cluster"], "_joined", [])
    servers = '{"cluster": {"chief": ["a:1"], "ps": ["b:1"]}, "task": {"type": "chief", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", servers)
    with pytest.raises(ValueError, match="has no 'worker': it takes a chief, workers and parameter servers"):
        loops.strategy("parameter_server")
    with pytest.raises(ValueError, match="has parameter servers: use 'parameter_server'"):
        loops.strategy("multiworker")
    with pytest.raises(ValueError, match="has no 'worker'"):
        loops.strategy("auto")


def test_a_worker_that_never_joins(monkeypatch):
    monkeypatch.setattr(sys.modules["gradloop.loops.distribute.cluster"], "_joined", [])
    tasks = '{"worker": ["127.0.0.1:24777", "127.0.0.1:1"]}'
    two = '{"cluster": ' + tasks + ', "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", two)
    for spec in ("auto", "multiworker"):
        with pytest.raises(TimeoutError, match="worker 1 at 127.0.0.1:1 did not start within 0.2 seconds"):
            loops.strategy(spec, timeout=0.2)
