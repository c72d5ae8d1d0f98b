"""Reading a dataset beside a run: each kind of shuffle and cache stays as it was."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.data.without_side_effects import without_side_effects


def _range():
    return tf.data.Dataset.range(8)


def _generated():
    def generate():
        yield from range(8)

    return tf.data.Dataset.from_generator(generate, output_signature=tf.TensorSpec([], tf.int64))


KINDS = {
    "shuffle": lambda: _range().shuffle(8, seed=1).batch(3),
    "shuffle in a repeat": lambda: _range().shuffle(8, seed=1).repeat(2).batch(3).prefetch(2),
    "shuffle of a generator": lambda: _generated().shuffle(8, seed=3).batch(3),
    "shuffle in a function": lambda: _range().flat_map(lambda n: _range().shuffle(8, seed=2).take(1)),
    "sampled": lambda: tf.data.Dataset.sample_from_datasets([_range(), _range()], seed=4),
    "one order": lambda: _range().shuffle(8, seed=1, reshuffle_each_iteration=False),
    "cache": lambda: _range().map(lambda x: x + 1).cache().shuffle(8, seed=1),
    "random": lambda: tf.data.Dataset.random(seed=1, rerandomize_each_iteration=True).take(8),
    "plain": lambda: _range().batch(3),
    "generator": _generated,
}


def _read(data):
    return [element.numpy().tolist() for element in data]


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_stays_as_it_was(kind):
    alone, read = KINDS[kind](), KINDS[kind]()
    expected = [_read(alone) for _ in range(3)]
    beside, orders, seen = without_side_effects(read, "data"), [], []
    for _ in range(3):
        seen.append(_read(tf.data.Dataset.take(beside, 2)))
        orders.append(_read(read))
        seen.append(_read(beside)[: len(seen[0])])
    assert orders == expected
    assert seen == seen[:1] * 6  # the same order each time
    whole = np.sort(np.concatenate([np.ravel(element) for element in _read(beside)]))
    if kind not in ("shuffle in a function", "random"):
        flat = np.sort(np.concatenate([np.ravel(element) for element in expected[0]]))
        np.testing.assert_array_equal(whole, flat)


def test_a_cache_in_a_file_is_not_written(tmp_path):
    data = _range().cache(str(tmp_path / "cache")).shuffle(8, seed=1)
    iterator = iter(data)
    next(iterator)  # which holds the file's lock
    assert len(_read(without_side_effects(data, "data"))) == 8
    assert len(list(iterator)) == 7


def test_batches_stay_where_they_are():
    data = loops.Batches(np.arange(7), None, 3)
    data.epoch = 4
    first = [x.numpy().tolist() for x in data.iterator(0)]
    assert [x.numpy().tolist() for x in without_side_effects(data, "data")] == first
    assert data.epoch == 4


def test_a_dataset_that_cannot_be_copied(monkeypatch):
    def fail(*_, **__):
        raise tf.errors.InvalidArgumentError(None, None, "too large")

    data = _range().shuffle(8, seed=1)
    monkeypatch.setattr(type(data), "_as_serialized_graph", fail, raising=False)
    with pytest.raises(
        ValueError, match="`validation` is a shuffled or cached .* too large.* Pass a `loops.B"
    ):
        without_side_effects(data, "validation")
