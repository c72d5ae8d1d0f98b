"""How many seeds shuffles have drawn, against the order in which their passes come."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.support import drawn_seeds as module
from gradloop.loops.support.drawn_seeds import drawn_seeds

pytestmark = pytest.mark.versions

D = tf.data.Dataset


def shuffled(count=8, **options):
    return D.range(count).shuffle(count, seed=1, **options)


def draws():
    parts = [D.range(9), D.range(9, 18)]
    return D.sample_from_datasets(parts, [0.5, 0.5], 3, True, rerandomize_each_iteration=True)


def twice():
    one = shuffled()
    return D.zip((one, one))


def of_another():
    inner = shuffled(4)
    return D.range(3).flat_map(lambda _: inner)


def passes(data, count):
    return [list(data.as_numpy_iterator()) for _ in range(count)]


@pytest.mark.parametrize(
    "make, after",
    [
        (shuffled, [4]),
        (lambda: shuffled().repeat(2), [8]),
        (lambda: shuffled(4).concatenate(shuffled(4)).shuffle(3, seed=2), [4, 4, 4]),
        (twice, [8]),
        (of_another, [12]),
        (draws, [4]),
        (lambda: shuffled(reshuffle_each_iteration=False), []),
        (lambda: D.range(3).map(lambda x: x), []),
    ],
)
def test_they_are_counted_and_set_and_stay(make, after):
    expected, data = passes(make(), 4), make()
    seeds = drawn_seeds(data)
    assert seeds.get() == [0] * len(after)
    assert passes(data, 2) == expected[:2]
    assert seeds.get() == after
    assert drawn_seeds(data.with_options(tf.data.Options())) is seeds
    assert passes(data, 2) == expected[2:]
    seeds.set(after)
    assert passes(data, 2) == expected[2:]
    seeds.set([0] * len(after))
    assert passes(data, 1) == expected[:1]


def test_variables_that_a_map_draws_from_are_beside_them():
    def make():
        generator, scale = tf.random.Generator.from_seed(1), tf.Variable(3, dtype=tf.int64)
        return shuffled().map(lambda x: (x * scale, generator.uniform([])))

    expected, data = passes(make(), 2), make()
    passes(data, 1)
    count, state = drawn_seeds(data).get()
    assert (count, len(state)) == (2, 3)
    again = make()
    drawn_seeds(again).set([count, state])
    assert passes(again, 1) == expected[1:]


def test_before_a_cache_they_are_those_by_which_it_was_filled():
    data = shuffled().cache().shuffle(8, seed=2)
    seeds = drawn_seeds(data)
    expected = passes(data, 3)
    counts = seeds.get()
    assert sorted(counts) == [0, 6]
    again = shuffled().cache().shuffle(8, seed=2)
    drawn_seeds(again).set([4 if count else 0 for count in counts])
    assert passes(again, 1) == expected[2:]


def test_a_dataset_of_unknown_origin_is_looked_into():
    data = tf.data.experimental.from_variant(
        tf.data.experimental.to_variant(shuffled()), tf.TensorSpec([], tf.int64)
    )
    assert drawn_seeds(data).get() == [0]


def test_large_arrays_are_not_described(monkeypatch):
    monkeypatch.setattr(module, "_MAX_BYTES", 7)
    data = D.from_tensor_slices(np.zeros(2, np.float32))
    with pytest.warns(
        UserWarning, match="cannot be saved, as its arrays in memory have more than 0 MB: after"
    ):
        assert drawn_seeds(data.shuffle(2)) is None
    assert drawn_seeds(data).get() == []
    assert drawn_seeds(data.shuffle(2, reshuffle_each_iteration=False)).get() == []


def test_a_form_that_is_not_known(monkeypatch):
    monkeypatch.setattr(module, "_COUNT", "another")
    module._form_is_known.cache_clear()
    with pytest.warns(UserWarning, match="cannot be saved, as TensorFlow .* a form that is not known"):
        assert drawn_seeds(shuffled()) is None
    module._form_is_known.cache_clear()


def test_a_dataset_that_tensorflow_cannot_describe(monkeypatch):
    def fail(dataset):
        raise tf.errors.InvalidArgumentError(None, None, "cannot")

    monkeypatch.setattr(module, "graph_of", fail)
    with pytest.warns(
        UserWarning, match=r"cannot be saved, as TensorFlow cannot describe it \(cannot\): after"
    ):
        assert drawn_seeds(shuffled()) is None
