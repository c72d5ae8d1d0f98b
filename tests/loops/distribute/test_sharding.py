"""Parts of a batch, against hand-written lists, on a strategy that runs its replicas one after another."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.distribute import sharding


class InTurn:
    """The few methods of a strategy that splitting needs."""

    def __init__(self, replicas, here=None):
        self.num_replicas_in_sync = replicas
        self.extended = SimpleNamespace(worker_devices=["cpu"] * (here or replicas))

    def experimental_distribute_values_from_function(self, function):
        contexts = [SimpleNamespace(replica_id_in_sync_group=r) for r in range(self.num_replicas_in_sync)]
        return SimpleNamespace(parts=[function(context) for context in contexts])

    def run(self, function, args):
        values, rest = args
        return SimpleNamespace(parts=[function(part, rest) for part in values.parts])

    def experimental_local_results(self, value):
        return value.parts


# For examples and replicas: which examples each of them takes.
PARTS = [
    (4, 2, [[0, 1], [2, 3]]),
    (5, 2, [[0, 1], [2, 3, 4]]),
    (7, 3, [[0, 1], [2, 3], [4, 5, 6]]),
    (3, 3, [[0], [1], [2]]),
    (9, 4, [[0, 1], [2, 3], [4, 5], [6, 7, 8]]),
    (3, 4, [[0, 1, 2]] * 4),
    (1, 2, [[0]] * 2),
]


@pytest.mark.parametrize("examples, replicas, expected", PARTS)
def test_split(examples, replicas, expected):
    rows = np.arange(examples * 2.0).reshape(examples, 2)
    batch = {"x": tf.constant(rows), "y": (tf.range(examples),)}
    parts = sharding.split(InTurn(replicas), batch)[0].parts
    assert [part["y"][0].numpy().tolist() for part in parts] == expected
    for part, numbers in zip(parts, expected):
        np.testing.assert_array_equal(part["x"], rows[numbers])


@pytest.mark.parametrize("examples, replicas, expected", PARTS)
def test_each_replica_reads_its_own_examples_alone(examples, replicas, expected):
    read = []

    def take(indices):
        read.append(indices.numpy().tolist())
        return indices

    # After two whole batches of 12, whose parts are as `split` has them.
    indices = np.random.default_rng(0).permutation(24 + examples)
    order, offsets, shards = sharding.shard_indices(indices, 12, replicas)
    for step, (first, last, *sizes) in enumerate(offsets):
        counts = tf.constant(sizes), tf.constant(shards[step])
        batch = sharding.LazyBatch(tf.constant(order[first:last]), take, *counts)
        part = sharding.on_replicas(InTurn(replicas), lambda part, _: part, batch)
        assert part.numpy().tolist() == read[-replicas]
    whole = sharding.split(InTurn(replicas), tf.constant(indices[:12]))[0].parts
    assert read[:replicas] == [part.numpy().tolist() for part in whole]
    assert read[-replicas:] == [[indices[24 + number] for number in numbers] for numbers in expected]
    assert sorted(sum(read[: 2 * replicas], [])) == sorted(indices[:24])


@pytest.mark.parametrize("examples, replicas, expected", PARTS)
def test_what_examples_count_adds_up_to_the_batch(examples, replicas, expected):
    counted = []

    def function(part, shard):
        counted.append(float(shard.weight) * len(part))
        return shard.examples

    assert float(sharding.on_replicas(InTurn(replicas), function, tf.zeros([examples, 3]))) == examples
    assert len(counted) == replicas and sum(counted) == pytest.approx(examples)
    weight = 1.0 if examples >= replicas else 1 / replicas
    shards = sharding.shard_indices(np.arange(12 + examples), 12, replicas)[-1]
    np.testing.assert_array_equal(shards, np.array([[12, 1], [examples, weight]], "float32"))
    np.testing.assert_allclose(counted, [weight * len(numbers) for numbers in expected])


@pytest.mark.parametrize("strategy", [None, tf.distribute.OneDeviceStrategy("/cpu:0")], ids=["none", "one"])
def test_one_device_has_the_whole_batch_and_no_shard(strategy):
    batch = {"x": tf.range(3)}
    part, shard = sharding.on_replicas(strategy, lambda part, shard: (part, shard), batch)
    assert part["x"].numpy().tolist() == [0, 1, 2] and shard is None


def test_batches_that_divide():
    two, data = InTurn(2), loops.Batches(np.arange(5), None, 2)
    for strategy in (None, two):
        assert sharding.check_can_shard(strategy, data.iterator()) is None
    # A size that nobody knows before it is read is not refused.
    assert sharding.check_can_shard(two, iter(tf.data.Dataset.range(9).batch(1))) is None


def test_batches_that_do_not_divide():
    with pytest.raises(ValueError, match="batches of 2 examples are too small for 3 replicas.*make it 3 or"):
        sharding.check_can_shard(InTurn(3), loops.Batches(np.arange(5), None, 2).iterator())
    ragged = tf.data.Dataset.from_tensors((tf.zeros([4]), tf.ragged.constant([[1], [2, 3], [], [4]])))
    with pytest.raises(ValueError, match="elements hold RaggedTensorSpec.*no examples to split over 2 repl"):
        sharding.check_can_shard(InTurn(2), iter(ragged))


def test_one_process_has_no_mean_over_workers():
    assert sharding.mean_over_workers_of(None) is None
    assert sharding.mean_over_workers_of(InTurn(2)) is None
