"""Features in a folder are used again only if the frozen part still gives them."""

import os
import warnings

import keras
import numpy as np
import pytest

from gradloop import models

pytestmark = pytest.mark.numbers

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype("float32")
Y = RNG.integers(0, 2, 40)
MESSAGE = "are not what the frozen part gives now, although weights, data and each `get_config` are the same"


def network(*layers):
    keras.utils.set_random_seed(0)
    frozen = [keras.Input((6,)), L.Dense(5, "relu"), *layers]
    return keras.Sequential([*frozen, L.Dense(2, activation="softmax", name="head")])


def function(factor):
    """A `Lambda` whose config is the name of its function."""

    def scale(x):
        return x * factor

    return L.Lambda(scale)


class Scale(keras.layers.Layer):
    factor = 1.0

    def call(self, x):
        return x * self.factor


def attribute(factor):
    layer = Scale()
    layer.factor = factor
    return layer


class Flip(keras.layers.Layer):
    """Augments at random: with a generator, and by other numbers in each trace."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        if not training:
            return x
        return x * keras.random.uniform((), 1, 2, seed=self.generator) * float(RNG.uniform(1, 2))


def unchanged(path, *arguments, **options):
    """The features, which are not made again."""
    written = (path / "features-0.npy").stat().st_ino
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached = models.cache_frozen(*arguments, path=path, **options)
    assert (path / "features-0.npy").stat().st_ino == written
    return np.array(cached.x)


@pytest.mark.parametrize("make", [function, attribute])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_what_no_config_tells(tmp_path, make, policy):
    keras.config.set_dtype_policy(policy)
    models.cache_frozen(network(make(1.0)), "head", (X, Y), path=tmp_path)
    unchanged(tmp_path, network(make(1.0)), "head", (X, Y))
    other = network(make(1.5))
    with pytest.warns(UserWarning, match=MESSAGE) as caught:
        made = models.cache_frozen(other, "head", (X, Y), path=tmp_path).x
    assert [warning.filename for warning in caught] == [__file__]
    expected = models.cache_frozen(other, "head", (X, Y)).x
    np.testing.assert_array_equal(made, expected)
    # What was made again is of use again.
    np.testing.assert_array_equal(unchanged(tmp_path, other, "head", (X, Y)), expected)


def test_a_change_of_a_small_branch_beside_a_large_one(tmp_path):
    def model(factor):
        keras.utils.set_random_seed(0)
        x = keras.Input((6,))
        one = L.Dense(5)(x)
        both = L.Concatenate()([L.Rescaling(1000.0)(one), function(factor)(one)])
        return keras.Model(x, L.Dense(2, name="head")(both))

    models.cache_frozen(model(0.1), "head", (X, Y), path=tmp_path)
    unchanged(tmp_path, model(0.1), "head", (X, Y))
    with pytest.warns(UserWarning, match=MESSAGE):
        made = models.cache_frozen(model(0.15), "head", (X, Y), path=tmp_path).x
    np.testing.assert_array_equal(made, models.cache_frozen(model(0.15), "head", (X, Y)).x)


def test_layers_within_others_built_twice(tmp_path):
    def model():
        keras.utils.set_random_seed(0)
        base = keras.Sequential([keras.Input((3,)), L.Dense(4, "relu"), L.Dense(3)])
        frozen = [L.Reshape((2, 3)), L.TimeDistributed(base), L.Bidirectional(L.LSTM(2))]
        return keras.Sequential([keras.Input((6,)), *frozen, L.Dense(2, name="head")])

    first = models.cache_frozen(model(), "head", (X, Y), path=tmp_path).x
    np.testing.assert_array_equal(unchanged(tmp_path, model(), "head", (X, Y)), first)


def test_a_change_of_the_features_shape(tmp_path):
    steps = [1]

    def some(x):
        return x[:, :: steps[0]]

    every = L.Lambda(some, output_shape=(None, 5))
    model = keras.Sequential([keras.Input((6, 1)), L.Dense(5), every, L.Conv1D(2, 1, name="head")])
    assert models.cache_frozen(model, "head", X[..., None], path=tmp_path).x.shape == (40, 6, 5)
    steps[0] = 2
    with pytest.warns(UserWarning, match=MESSAGE):
        cached = models.cache_frozen(model, "head", X[..., None], path=tmp_path)
    assert cached.x.shape == (40, 3, 5)


def test_a_change_in_the_last_of_sorted_examples(tmp_path):
    limits = [np.inf]

    def cut_off(x):
        return keras.ops.minimum(x, limits[-1])

    model = keras.Sequential([keras.Input((6,)), L.Lambda(cut_off), L.Dense(4), L.Dense(2, name="head")])
    x = np.sort(X, axis=0)
    models.cache_frozen(model, "head", x, path=tmp_path, batch_size=8)
    limits.append(x[30].max())
    with pytest.warns(UserWarning, match=MESSAGE):
        models.cache_frozen(model, "head", x, path=tmp_path, batch_size=8)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batches_of_another_size(tmp_path, batch_size):
    model = network(L.BatchNormalization())
    first = models.cache_frozen(model, "head", (X, Y), path=tmp_path, batch_size=16).x
    again = unchanged(tmp_path, model, "head", (X, Y), batch_size=batch_size)
    np.testing.assert_array_equal(again, first)


def test_several_tensors_and_few_examples(tmp_path):
    def model(factor):
        keras.utils.set_random_seed(0)
        x = keras.Input((6,))
        one = L.Dense(5)(x)
        both = L.Concatenate()([L.Dense(3, name="top")(one), function(factor)(one), L.Dense(3)(one), x])
        return keras.Model(x, L.Dense(2, name="head")(both))

    x = X[:3]
    first = models.cache_frozen(model(1.0), ["top", "head"], x, path=tmp_path)
    assert [array.shape for array in first.x] == [(3, 5), (3, 5), (3, 3), (3, 6)]
    again = models.cache_frozen(model(1.0), ["top", "head"], x, path=tmp_path)
    for one, other in zip(first.x, again.x, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.warns(UserWarning, match=MESSAGE):
        models.cache_frozen(model(2.0), ["top", "head"], x, path=tmp_path)


def test_augmented_copies_are_told_by_plain_ones(tmp_path):
    def model(factor):
        keras.utils.set_random_seed(0)
        frozen = [keras.Input((6,)), Flip(), L.Dense(5), function(factor)]
        return keras.Sequential([*frozen, L.Dense(2, name="head")])

    first = models.cache_frozen(model(1.0), "head", (X, Y), path=tmp_path, copies=2).x
    # Other random numbers would come now.
    again = unchanged(tmp_path, model(1.0), "head", (X, Y), copies=2)
    np.testing.assert_array_equal(again, first)
    with pytest.warns(UserWarning, match=MESSAGE):
        models.cache_frozen(model(2.0), "head", (X, Y), path=tmp_path, copies=2)


def test_nan_is_no_change(tmp_path):
    model = network(L.Lambda(lambda x: keras.ops.log(x - 0.1)))
    first = models.cache_frozen(model, "head", (X, Y), path=tmp_path).x
    assert np.isnan(first).any() and np.isfinite(first).any()
    np.testing.assert_array_equal(unchanged(tmp_path, model, "head", (X, Y)), first)


def test_a_folder_without_a_sample(tmp_path):
    model = network()
    first = models.cache_frozen(model, "head", (X, Y), path=tmp_path).x
    (tmp_path / "sample-0.npy").unlink()
    with pytest.warns(UserWarning, match="of other weights, data or layers, or not whole: they are computed"):
        again = models.cache_frozen(model, "head", (X, Y), path=tmp_path).x
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("name", ["features-0.npy", "sample-0.npy"])
@pytest.mark.parametrize("left", [0, 150])
def test_a_file_that_is_cut_short(tmp_path, name, left):
    model = network()
    first = np.array(models.cache_frozen(model, "head", (X, Y), path=tmp_path).x)
    os.truncate(tmp_path / name, left)
    with pytest.warns(UserWarning, match="of other weights, data or layers, or not whole: they are computed"):
        again = models.cache_frozen(model, "head", (X, Y), path=tmp_path).x
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(unchanged(tmp_path, model, "head", (X, Y)), first)


def test_a_layer_without_a_config_in_memory_and_in_a_folder(tmp_path):
    class Shift(keras.layers.Layer):
        def __init__(self, by):
            super().__init__(name="shift")
            self.by = by

        def call(self, x):
            return x + self.by

    model = network(Shift(np.ones(5, "float32")))
    assert models.cache_frozen(model, "head", (X, Y)).x.min() == 1.0
    with pytest.raises(ValueError, match="`path`: layer 'shift', a Shift, has no `get_config`.*`path=None`"):
        models.cache_frozen(model, "head", (X, Y), path=tmp_path)
