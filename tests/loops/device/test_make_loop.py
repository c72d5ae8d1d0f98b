"""Which loop a strategy's steps run in."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device.device_loop import DeviceLoop
from gradloop.loops.device.make_loop import make_loop
from gradloop.loops.device.parameter_server_loop import ParameterServerLoop
from gradloop.loops.distribute.sharding import LazyBatch


class Body:
    """Records what kind of batches it is given and sums them."""

    def __init__(self):
        self.kinds = []
        self.count = tf.Variable(0, dtype=tf.int64)

    def __call__(self, batch):
        self.kinds.append(type(batch))
        batch = batch.take(batch.indices) if isinstance(batch, LazyBatch) else batch
        return [tf.cast(tf.reduce_sum(batch), tf.float32)]

    def loop(self, strategy, one_thread=False):
        return make_loop(strategy, self, 1, one_thread, lambda batch: batch, self.count)


def nothing():
    pass


@pytest.mark.parametrize("strategy", [None, tf.distribute.OneDeviceStrategy("/cpu:0")], ids=["none", "one"])
def test_the_loop_on_the_device(strategy):
    body = Body()
    loop = body.loop(strategy)
    assert isinstance(loop, DeviceLoop)
    rows = loop.run_many(iter(loops.Batches(np.arange(5), None, 2, shuffle=False)), 9, nothing)
    assert rows.tolist() == [[1], [5], [4]]
    assert int(body.count) == 3
    # Under a strategy the step splits a batch before it is read, so it gets it unread.
    assert [issubclass(kind, LazyBatch) for kind in body.kinds] == [strategy is not None]
    loop.run_many(iter(tf.data.Dataset.range(4).batch(2)), 2, nothing)
    assert not issubclass(body.kinds[-1], LazyBatch) and int(body.count) == 5


def test_a_transformed_batch_is_read_before_it_is_split():
    """What a transform draws at random is for the whole batch."""
    body = Body()
    data = loops.Batches(np.arange(4), np.arange(4), 2, shuffle=False, transform=lambda x, y: (x * 10, y))
    loop = make_loop(
        tf.distribute.OneDeviceStrategy("/cpu:0"),
        lambda batch: body(batch[0]),
        1,
        False,
        lambda batch: batch,
        body.count,
    )
    assert loop.run_many(iter(data), 2, nothing).tolist() == [[10], [50]]
    assert not any(issubclass(kind, LazyBatch) for kind in body.kinds)


def test_two_replicas_read_their_examples():
    batches = []

    def body(batch):
        batches.append(batch)
        parts = [batch.take(part) for part in tf.split(batch.indices, batch.sizes, num=2)]
        return [tf.cast(tf.reduce_sum(part), tf.float32) for part in parts] + [*tf.unstack(batch.shard)]

    loop = DeviceLoop(body, 4, False, lambda batch: batch, tf.Variable(0, dtype=tf.int64), replicas=2)
    rows = loop.run_many(iter(loops.Batches(np.arange(8), None, 3, shuffle=False)), 2, nothing)
    assert rows.tolist() == [[0, 3, 3, 1], [3, 9, 3, 1]]
    iterator = loops.Batches(np.arange(7), None, 3, shuffle=False).iterator(0, 1)
    # The rest is a single example: both replicas have it, and it counts half for each.
    assert loop.run_many(iterator, 9, nothing).tolist() == [[3, 9, 3, 1], [6, 6, 1, 0.5]]
    assert len(batches) == 1 and loop.traces == 1


def test_replicas_get_a_transformed_batch_whole():
    data = loops.Batches(np.arange(4), None, 2, shuffle=False, transform=lambda x, y: (x * 10, y))
    body = Body()
    loop = DeviceLoop(body, 1, False, lambda batch: batch, body.count, replicas=2)
    assert loop.run_many(iter(data), 2, nothing).tolist() == [[10], [50]]
    assert not any(issubclass(kind, LazyBatch) for kind in body.kinds)


@pytest.mark.parametrize("one_thread", [False, True])
def test_one_thread_is_passed_on(one_thread, monkeypatch):
    asked = []

    def executor(one_thread):
        asked.append(one_thread)
        return tf.name_scope("")

    monkeypatch.setattr("gradloop.loops.device.device_loop.executor", executor)
    Body().loop(None, one_thread).run_one(tf.constant([1, 2]), nothing)
    assert asked == [one_thread]


def test_the_loop_of_parameter_servers():
    servers = object.__new__(tf.distribute.ParameterServerStrategy)  # which would need a cluster
    body = Body()
    loop = body.loop(servers, one_thread=True)
    assert isinstance(loop, ParameterServerLoop)
    assert loop.rows.shape == (0, 1) and loop.traces == 0
    with pytest.raises(ValueError, match="`iterator` is .*Iterator: on parameter servers.*`loops.Batches`"):
        loop.run_many(iter(tf.data.Dataset.range(4).batch(2)), 2, nothing)
    assert body.kinds == [] and int(body.count) == 0
