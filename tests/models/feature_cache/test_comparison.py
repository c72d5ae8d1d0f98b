"""Features from before beside those of now: the same but for rounding."""

import keras
import numpy as np
import pytest

from gradloop.models.feature_cache.comparison import rounding_tolerance, same_features

L = keras.layers
X = np.ones((5, 4), "float32")


def same(one, other, within=1e-3):
    one, other = np.asarray(one), np.asarray(other)
    assert same_features([X, one], [X, other], within) == same_features([other], [one], within)
    return same_features([one], [other], within)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_rounding_is_told_from_other_features(dtype):
    # Large enough that squares are more than a float16 holds; half of them zeros of a ReLU.
    features = (1000 * np.maximum(np.random.default_rng(0).normal(size=(16, 50)), 0)).astype(dtype)
    features[0, 0] = 0
    for change, expected in ((0, True), (0.2, True), (2, False), (-2, False)):
        other = features.copy()
        other[0, 0] += change
        assert same(features, other) == expected
    assert same(features, (1.0007 * features).astype(dtype))
    assert not same(features, (1.005 * features).astype(dtype))
    assert same(features, (1.005 * features).astype(dtype), 0.01)


@pytest.mark.parametrize("shape", [(16, 50), (16, 4, 4, 50)])
def test_each_channel_is_measured_by_its_own_size(shape):
    features = np.random.default_rng(0).normal(size=shape).astype("float32")
    features[..., :25] *= 1000
    features[..., 25:40] *= 10
    features[..., 40:] *= 0.1
    # The last are so small beside the others that less of a change is let pass.
    for channels, change in ((slice(25), 1.005), (slice(25, 40), 1.005), (slice(40, None), 1.5)):
        for factor, expected in ((1.0005, True), (change, False)):
            other = features.copy()
            other[..., channels] *= factor
            assert same(features, other) == expected


@pytest.mark.parametrize(("within", "rounding", "change"), [(1e-3, 1e-6, 1e-4), (2**-6, 1e-4, 1e-3)])
def test_rounding_of_channels_that_are_zero(within, rounding, change):
    features = np.random.default_rng(0).normal(size=(16, 50)).astype("float32")
    features[:, 3] = 0
    for value, expected in ((rounding, True), (change, False)):
        other = features.copy()
        other[5, 3] = value
        assert same(features, other, within) == expected


def test_one_axis_is_measured_as_a_whole():
    assert same([1000.0, 0.0], [1000.0, 0.5]) and not same([1000.0, 0.0], [1000.0, 5.0])
    assert not same([[1000.0, 0.0]], [[1000.0, 0.5]])


def test_values_that_are_not_numbers():
    nan, inf = np.nan, np.inf
    kept = np.array([[1, nan, inf, -inf]], "float16")
    assert same(kept, kept)
    for other in ([1, 2, inf, -inf], [1, nan, -inf, -inf], [1, nan, 65504, -inf], [2, nan, inf, -inf]):
        assert not same(kept, np.array([other], "float16"))
    # One of them does not hide the rest of its channel.
    kept = np.array([[nan, 1], [inf, 1], [1, 1]], "float32")
    assert same(kept, kept * np.float32(1.0005)) and not same(kept, kept * np.float32(1.01))
    none = np.full((2, 2), nan, "float32")
    assert same(none, none) and not same(none, np.zeros_like(none))


def test_other_kinds_of_features():
    assert same([True, False], [True, False]) and not same([True, False], [True, True])
    assert same([3, 4], [3, 4]) and not same([3, 4], [3, 5])
    assert same(np.zeros(3), np.zeros(3)) and not same(np.zeros(3), np.full(3, 1e-30))
    for others in ([X[:, :2]], [X[:3]], [X.astype("float64")], [X, X], []):
        assert not same_features([X], others, 1e-3)


def test_tolerance_goes_by_the_coarsest_layer():
    found = []
    for policy in ("float64", "float32", "mixed_float16", "mixed_bfloat16"):
        x = keras.Input((4,))
        mixed = keras.Model(x, L.Dense(2, dtype="float32")(L.Dense(3, dtype=policy)(x)) * 2.0)
        found.append(rounding_tolerance(mixed))
    assert found == [1e-3, 1e-3, 2**-6, 2**-3]
