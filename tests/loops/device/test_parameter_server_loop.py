"""The loop of parameter servers, with a coordinator that runs what it is given at once, in this process."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.device.parameter_server_loop import ParameterServerLoop


class AtOnce:
    """Stands for `ClusterCoordinator`; a strategy here is the list of what was scheduled and sent."""

    def __init__(self, strategy):
        self.log = strategy

    def schedule(self, function, args):
        self.log.append(("schedule", args))
        return SimpleNamespace(fetch=function(*args).numpy)

    def join(self):
        self.log.append(("join", None))

    def create_per_worker_dataset(self, dataset):
        self.log.append(("send", None))
        return dataset


class Summing:
    def __init__(self):
        self.log = []
        self.count = tf.Variable(0, dtype=tf.int64)
        self.loop = ParameterServerLoop(self.body, 2, self.log, self.count)

    def body(self, batch):
        batch = batch[0] if isinstance(batch, tuple) else batch
        return [tf.cast(value, tf.float32) for value in (tf.reduce_sum(batch), tf.reduce_max(batch))]

    def runs(self):
        """(position, steps) of each run that was scheduled."""
        return [tuple(args[-1].numpy().tolist()[-2:]) for kind, args in self.log if kind == "schedule"]


@pytest.fixture
def summing(monkeypatch):
    # Two workers, the second with two devices.
    places = ["ps/task:0", "worker/task:0", "worker/task:1", "worker/task:1"]
    devices = [SimpleNamespace(name=f"/job:{place}/device:CPU:{n}") for n, place in enumerate(places)]
    monkeypatch.setattr(tf.distribute.coordinator, "ClusterCoordinator", AtOnce)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices)
    return Summing()


def nothing():
    pass


def by_hand(data, epoch, first, last):
    batches = [batch[0] if isinstance(batch, tuple) else batch for batch in data.iterator(epoch)]
    return [[batch.numpy().sum(), batch.numpy().max()] for batch in batches[first:last]]


def noisy(x, y, seed):
    return x + tf.random.stateless_uniform(tf.shape(x), seed, maxval=1000, dtype=tf.int64), y


@pytest.mark.parametrize("options", [{"shuffle": False}, {"seed": 3}, {"seed": 1, "transform": noisy}])
def test_rows_are_in_the_order_of_the_batches(summing, options):
    data = loops.Batches(np.arange(98), np.arange(98), 4, **options)
    loop, iterator = summing.loop, data.iterator(2)
    assert loop.run_many(iterator, 5, nothing).tolist() == by_hand(data, 2, 0, 5)
    assert iterator.position == 5 and int(summing.count) == 5
    assert loop.run_many(iterator, 99, nothing).tolist() == by_hand(data, 2, 5, 25)  # the last one is short
    assert loop.rows.shape == (20, 2) and loop.rows.dtype == np.float32
    assert iterator.remaining == 0 and int(summing.count) == 25


def test_a_call_is_dealt_out_in_about_four_runs_for_each_worker(summing):
    data = loops.Batches(np.arange(100), None, 4)
    summing.loop.run_many(data.iterator(0, 2), 20, nothing)
    assert summing.runs() == [(2, 3), (5, 3), (8, 3), (11, 3), (14, 3), (17, 3), (20, 2)]
    assert [kind for kind, _ in summing.log] == ["send"] + ["schedule"] * 7 + ["join"]
    summing.loop.run_many(data.iterator(), 3, nothing)
    assert summing.runs()[7:] == [(0, 1), (1, 1), (2, 1)]
    assert [kind for kind, _ in summing.log].count("send") == 1 == summing.loop.traces


def test_the_check_comes_before_anything_is_scheduled(summing):
    def refuse():
        raise ValueError("not this")

    iterator = loops.Batches(np.arange(10), None, 2).iterator()
    for call, arguments in (
        (summing.loop.run_many, (iterator, 3)),
        (summing.loop.run_one, (tf.constant([1]),)),
    ):
        with pytest.raises(ValueError, match="not this"):
            call(*arguments, refuse)
    assert summing.log == [] and iterator.position == 0 and int(summing.count) == 0
    ended = loops.Batches(np.arange(10), None, 2).iterator(0, 5)
    assert summing.loop.run_many(ended, 3, refuse).shape == (0, 2), "nothing runs, so nothing is checked"


def test_a_call_that_fails_tells_of_no_steps(summing, monkeypatch):
    def fail(self):
        raise tf.errors.UnavailableError(None, None, "server is gone")

    iterator = loops.Batches(np.arange(10), None, 2).iterator()
    summing.loop.run_many(iterator, 2, nothing)
    monkeypatch.setattr(AtOnce, "join", fail)
    with pytest.raises(tf.errors.UnavailableError, match="server is gone"):
        summing.loop.run_many(iterator, 2, nothing)
    assert summing.loop.rows.shape == (0, 2) and iterator.position == 2 and int(summing.count) == 2


def test_one_batch(summing):
    for batch in ([1, 2], [4], [5, 6, 7]):
        row = summing.loop.run_one(tf.constant(batch), nothing)
        assert row.dtype == tf.float32 and row.numpy().tolist() == [sum(batch), max(batch)]
    assert int(summing.count) == 3 and summing.loop.traces == 1, "batches of any size"


def test_a_model_that_asks_for_the_batch_size_is_traced_for_each(summing):
    def body(batch):
        return [tf.cast(tf.reduce_sum(batch), tf.float32), tf.constant(1.0) * batch.shape[0]]

    loop = ParameterServerLoop(body, 2, summing.log, summing.count)
    data = loops.Batches(np.arange(10), None, 4, seed=1)
    for first, last in ((0, 1), (1, 3)):
        expected = [[batch.numpy().sum(), len(batch)] for batch in data.iterator(0)][first:last]
        assert loop.run_many(data.iterator(0, first), last - first, nothing).tolist() == expected
    assert loop.traces == 2 and int(summing.count) == 3
    assert loop.run_one(tf.constant([5, 6]), nothing).numpy().tolist() == [11, 2]


def test_an_error_of_the_step_itself_is_told_as_it_was(summing):
    def body(batch):
        raise TypeError(f"of {batch.shape[0]}")

    loop = ParameterServerLoop(body, 2, summing.log, summing.count)
    for run in (
        lambda: loop.run_many(loops.Batches(np.arange(4), None, 2).iterator(), 1, nothing),
        lambda: loop.run_one(tf.constant([1]), nothing),
    ):
        with pytest.raises(TypeError, match="of None"):
            run()
