"""What has no fixed order in a dataset is found, in each transformation that TensorFlow has for it."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop.loops.support.dataset_order import (
    batch_sizes,
    never_ends_if_restored,
    nondeterminism_and_seeds,
    own_seeds,
    tensors_of,
    variables_in,
)
from gradloop.loops.support.tensorflow_private import dataset_of

pytestmark = pytest.mark.versions

D = tf.data.Dataset
TEN = D.range(10)


def same(x):
    return x


def odd(x):
    return x % 2


def below_five(x):
    return x < 5


def drawn(x):
    return tf.random.uniform([]) < 0.5


def drawn_by_seed(x):
    return tf.random.uniform([], seed=3) < 0.5


def inner(x):
    return D.range(5)


def inner_shuffle(x):
    return D.range(5).shuffle(3)


def inner_shuffle_by_seed(x):
    return D.range(5).shuffle(3, seed=1)


def inner_unordered(x):
    return D.range(5).map(same, num_parallel_calls=2, deterministic=False)


def shuffled_window(key, data):
    return data.shuffle(4).batch(2)


def half(x):
    return tf.cast(x % 2, tf.int32)


ORDERED = {
    "plain": lambda: TEN.batch(2).prefetch(2).cache().repeat(2).skip(1).take(3),
    "shuffle": lambda: TEN.shuffle(5, seed=0),
    "map": lambda: TEN.map(same, num_parallel_calls=2),
    "augmentation": lambda: TEN.map(drawn),
    "filter": lambda: TEN.filter(below_five),
    "filter by seed": lambda: TEN.filter(drawn_by_seed),
    "resample": lambda: TEN.rejection_resample(half, [0.5, 0.5], seed=3),
    "interleave": lambda: TEN.interleave(inner, num_parallel_calls=2),
    "shuffle in interleave": lambda: TEN.interleave(inner_shuffle_by_seed),
    "sample": lambda: D.sample_from_datasets([TEN, TEN], seed=1),
    "choose": lambda: D.choose_from_datasets([TEN, TEN], TEN.map(odd)),
    "generator": lambda: D.from_generator(lambda: iter([1]), output_signature=tf.TensorSpec([], tf.int32)),
    "window": lambda: TEN.window(2).flat_map(lambda window: window.batch(2)),
    "options": lambda: TEN.batch(2).with_options(tf.data.Options()),
}
LOOSE = {
    "shuffle": (lambda: TEN.shuffle(5).batch(2), "a `shuffle` without a seed"),
    "shuffle once": (lambda: TEN.shuffle(5, reshuffle_each_iteration=False), "a `shuffle` without a seed"),
    "zip": (lambda: D.zip((TEN, TEN.shuffle(3))), "a `shuffle` without a seed"),
    "concatenate": (lambda: TEN.concatenate(TEN.shuffle(3)), "a `shuffle` without a seed"),
    "sample": (lambda: D.sample_from_datasets([TEN, TEN]), "sample_from_datasets"),
    "random": (lambda: D.random().take(3), "Dataset.random"),
    "map": (lambda: TEN.map(same, num_parallel_calls=2, deterministic=False), "deterministic=False"),
    "batch": (lambda: TEN.batch(2, num_parallel_calls=2, deterministic=False), "deterministic=False"),
    "interleave": (
        lambda: TEN.interleave(inner, num_parallel_calls=2, deterministic=False),
        "an `interleave` with",
    ),
    "shuffle in interleave": (lambda: TEN.interleave(inner_shuffle), "in a function of it"),
    "shuffle in flat_map": (lambda: TEN.flat_map(inner_shuffle), "in a function of it"),
    "map in flat_map": (lambda: TEN.flat_map(inner_unordered), "deterministic=False`, in a function of it"),
    "shuffle of windows": (
        lambda: TEN.group_by_window(odd, shuffled_window, window_size=2),
        "in a function of it",
    ),
    "filter": (lambda: TEN.filter(drawn), "a `filter` or `rejection_resample` by random numbers"),
    "resample": (lambda: TEN.rejection_resample(half, [0.5, 0.5]), "without a seed"),
}


@pytest.fixture(autouse=True)
def no_global_seed():
    """Which `same_start` sets, and which seeds all that has no seed of its own."""
    tf.random.set_seed(None)


@pytest.mark.parametrize("name", ORDERED)
def test_what_is_in_order(name):
    assert nondeterminism_and_seeds(ORDERED[name]())[0] == []


@pytest.mark.parametrize("name", LOOSE)
def test_what_is_not(name):
    make, words = LOOSE[name]
    assert any(words in each for each in nondeterminism_and_seeds(make())[0])


def test_seeds_are_told():
    seeds = {seed: nondeterminism_and_seeds(TEN.shuffle(5, seed=seed))[1] for seed in (1, 2)}
    assert seeds[1] != seeds[2] and len(seeds[1]) == 1
    assert seeds[1] == nondeterminism_and_seeds(TEN.shuffle(5, seed=1))[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = [
            keras.utils.timeseries_dataset_from_array(np.arange(9.0), None, 3, shuffle=True) for _ in range(2)
        ]
    loose, seeds = zip(*map(nondeterminism_and_seeds, made))
    assert loose == ([], []), "Keras draws a seed"


def test_a_global_seed_counts():
    tf.random.set_seed(7)
    loose, seeds = nondeterminism_and_seeds(TEN.shuffle(5))
    assert loose == [] and seeds[0][0] == 7
    loose, seeds = nondeterminism_and_seeds(TEN.flat_map(inner_shuffle))
    assert loose == [] and 7 in seeds[0]


def test_the_dataset_of_an_iterator():
    data = TEN.shuffle(3)
    assert nondeterminism_and_seeds(dataset_of(iter(data)))[0]
    assert dataset_of(iter([1])) is None


def test_variables_of_functions():
    noise = keras.layers.GaussianNoise(1.0, seed=3)
    dataset = tf.data.Dataset.range(4).map(lambda n: noise(tf.cast(n, tf.float32), training=True)).batch(2)
    assert [variable.name for variable in variables_in(dataset)] == [noise.seed_generator.state.value.name]
    assert variables_in(tf.data.Dataset.range(4)) == []


def test_what_else_a_dataset_tells():
    data = D.from_tensor_slices(([1, 2], tf.ragged.constant([[1], [2, 3]]))).shuffle(2, seed=7).repeat()
    assert [tensor.numpy().tolist() for tensor in tensors_of(data.batch(2))][:1] == [[1, 2]]
    assert batch_sizes(data.batch(2, num_parallel_calls=2).batch(3)) == [3, 2]
    assert batch_sizes(TEN.padded_batch(4, padded_shapes=())) == [4] and batch_sizes(TEN) == []
    assert own_seeds(data) == [7] and own_seeds(TEN) == [] and own_seeds(TEN.shuffle(3)) is None
    tf.random.set_seed(7)
    assert own_seeds(TEN.shuffle(3)) is None


def test_a_parallel_interleave_of_a_shuffle_has_an_order():
    data = TEN.shuffle(9, seed=5).interleave(lambda x: D.range(x), num_parallel_calls=2)
    assert nondeterminism_and_seeds(data)[0] == []


@pytest.mark.parametrize(
    "never, data",
    [
        (True, D.sample_from_datasets([TEN, TEN], [0.5, 0.5], seed=1)),
        (True, D.choose_from_datasets([TEN, TEN], D.range(2).repeat(), stop_on_empty_dataset=False).batch(2)),
        (False, D.choose_from_datasets([TEN, TEN], D.range(2), stop_on_empty_dataset=False)),
        (False, D.sample_from_datasets([TEN, TEN.repeat()], [0.5, 0.5], seed=1)),
        (False, D.sample_from_datasets([TEN, TEN], [0.5, 0.5], seed=1, stop_on_empty_dataset=True)),
        (False, TEN.shuffle(3)),
    ],
)
def test_which_tensorflow_would_read_for_ever(never, data):
    assert never_ends_if_restored(data) == never
