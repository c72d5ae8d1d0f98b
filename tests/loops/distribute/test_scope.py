"""Whose variables are whose: strategies are told apart without devices for them."""

from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from gradloop import optim
from gradloop.loops.distribute import scope


class Mirrored:
    """What the checks read of a strategy; `here` replicas of it are in this process."""

    def __init__(self, replicas, here=None):
        self.num_replicas_in_sync = replicas
        self.extended = SimpleNamespace(worker_devices=["cpu"] * (here or replicas))


def variable(strategy, path="head/kernel"):
    return SimpleNamespace(path=path, name=path, device="", distribute_strategy=strategy)


@pytest.fixture
def servers():
    """One of parameter servers, which would need a cluster to be made whole."""
    return object.__new__(tf.distribute.ParameterServerStrategy)


def test_all_variables_are_of_one_strategy():
    two, other = Mirrored(2), Mirrored(2)
    assert scope.strategy_of([variable(two), variable(two)], "model") is two
    assert scope.strategy_of([], "model") is None
    message = r"`model` was made partly inside .* scope \('stem/bias' is outside\): make all of it inside"
    with pytest.raises(ValueError, match=message):
        scope.strategy_of([variable(two), variable(None, "stem/bias")], "model")
    # Each is inside of a scope, so none is named as outside.
    with pytest.raises(ValueError, match="`variables` was made partly .* of a strategy's scope: make all"):
        scope.strategy_of([variable(two), variable(other)], "variables")


def test_a_scope_that_is_entered_after_its_variables_were_made(monkeypatch):
    """One of a single replica leaves the numbers as they are, and is let pass."""
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        assert scope.strategy_of([variable(None)], "model") is None
    monkeypatch.setattr(tf.distribute, "has_strategy", lambda: True)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: Mirrored(4))
    with pytest.raises(ValueError, match="`model` was made outside of .* the Mirrored of 4 replicas"):
        scope.strategy_of([variable(None)], "model")


def test_check_scope():
    two, one = Mirrored(2), Mirrored(1)
    for own, strategy in ((two, two), (None, None), (one, None)):
        assert scope.check_scope("optimizer", variable(own), strategy) is None
    with pytest.raises(ValueError, match="`metrics` was made inside .* of 2 replicas, the model outside"):
        scope.check_scope("metrics", variable(two), None)
    for own in (None, Mirrored(2), one):
        with pytest.raises(ValueError, match="outside of .* the model's Mirrored of 2 replicas: make it"):
            scope.check_scope("optimizer", variable(own), two)


def test_what_keras_cannot_do_on_several_replicas():
    accumulating = keras.optimizers.SGD(0.1, gradient_accumulation_steps=3)
    overwriting = keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=5)
    with pytest.raises(ValueError, match="`gradient_accumulation_steps=3`.*use `accumulate=...`"):
        scope.check_on_replicas(accumulating, Mirrored(2))
    with pytest.raises(ValueError, match="`ema_overwrite_frequency=5`.*wrap it in `optim.GroupedOptimizer`"):
        scope.check_on_replicas(overwriting, Mirrored(2))
    for strategy in (None, Mirrored(1)):
        assert scope.check_on_replicas(accumulating, strategy) is None
        assert scope.check_on_replicas(overwriting, strategy) is None
    # The ways out that the messages name, and averages that are never written back.
    averaging = keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=None)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="head")])
    wrapped = optim.GroupedOptimizer(
        keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=5),
        optim.partition(model, {"head": "head"}),
    )
    for optimizer in (averaging, wrapped):
        assert scope.check_on_replicas(optimizer, Mirrored(2)) is None


def test_called_inside_of_the_replicas():
    one, other = (tf.distribute.MirroredStrategy(["/cpu:0"]) for _ in range(2))
    check = scope.check_in_replica
    assert check("Update", None) is None
    assert one.run(lambda: check("Update", one)) is None
    message = "`Update` was called outside of the replicas of its MirroredStrategy of 1 replicas.*loops.repl"
    with pytest.raises(ValueError, match=message):
        check("Update", one)
    with one.scope(), pytest.raises(ValueError, match=message):
        check("Update", one)
    with pytest.raises(ValueError, match=message):
        other.run(lambda: check("Update", one))


def test_workers_and_parameter_servers(servers):
    assert not scope.is_asynchronous(None) and not scope.is_asynchronous(Mirrored(2))
    assert scope.is_asynchronous(servers)
    assert not scope.has_other_workers(None) and not scope.has_other_workers(Mirrored(2))
    assert scope.has_other_workers(Mirrored(4, here=2))
    assert not scope.has_other_workers(servers)


def test_a_variable_on_a_parameter_server_has_the_strategy_that_is_entered(servers, monkeypatch):
    """It does not know its strategy, which only its scope tells."""
    there = SimpleNamespace(name="kernel", path="kernel", device="/job:ps/replica:0/task:0/device:CPU:0")
    with pytest.raises(ValueError, match="'kernel' is on a parameter server, .* call it inside"):
        scope.strategy_of([there], "model")
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: servers)
    assert scope.strategy_of([there, there], "model") is servers
