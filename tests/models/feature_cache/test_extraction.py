"""Running the frozen part: the numbers of the model called by hand, batch after batch."""

import keras
import numpy as np
import pytest

from gradloop.models.feature_cache.extraction import features, sample_features

pytestmark = pytest.mark.numbers

L = keras.layers
X = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
BATCHES = [X[:3], X[3:6], X[6:]]


class Shift(keras.layers.Layer):
    """Augments: adds 1 in training. Counts its traces and calls."""

    calls = 0

    def call(self, x, training=False):
        self.calls += 1
        return x + 1.0 if training else x


def front(*layers, dtype="float32"):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), *layers, L.Dense(3, dtype=dtype), L.Dropout(0.5)])


def tensors():
    return [keras.ops.convert_to_tensor(batch) for batch in BATCHES]


def test_batches_of_any_size_are_one_trace_in_inference_mode():
    shift = Shift()
    model = front(shift)
    before = shift.calls
    found = [batch[0] for batch in features(model, [], tensors())]
    assert [len(batch) for batch in found] == [3, 3, 1] and shift.calls == before + 1
    np.testing.assert_allclose(np.concatenate(found), model(X).numpy(), rtol=1e-6, atol=1e-6)


def test_layers_that_augment_run_in_training_mode_and_no_others_do():
    model = front(Shift(name="shift"))
    found = np.concatenate([batch[0] for batch in features(model, ["shift"], tensors())])
    np.testing.assert_allclose(found, model(X + 1).numpy(), rtol=1e-6, atol=1e-6)


def test_what_comes_before_an_augmentation_runs_in_inference_mode():
    model = keras.Sequential(
        [keras.Input((4,)), L.BatchNormalization(), L.Dropout(0.5), Shift(name="shift"), L.Dense(3)]
    )
    norm, dense = model.layers[0], model.layers[-1]
    mean, variance = np.arange(4.0), np.arange(1.0, 5.0)
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)
    found = np.concatenate([batch[0] for batch in features(model, ["shift"], tensors())])
    expected = ((X - mean) / np.sqrt(variance + norm.epsilon) + 1) @ dense.kernel.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(norm.moving_mean, mean)
    np.testing.assert_array_equal(norm.moving_variance, variance)


def test_few_examples_are_not_augmented():
    model = front(Shift(name="shift"))
    (found,) = sample_features(model, tensors())
    np.testing.assert_allclose(found, model(X).numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.numbers("float32")
def test_bfloat16_becomes_float32():
    model = front(dtype="bfloat16")
    for found in (next(features(model, [], tensors()))[0], sample_features(model, tensors())[0][:3]):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, keras.ops.cast(model(X[:3]), "float32"), rtol=2e-2, atol=2e-2)


def test_several_outputs_and_inputs():
    one, other = keras.Input((4,), name="one"), keras.Input((4,), name="other")
    model = keras.Model({"one": one, "other": other}, [one + other, one * other])
    batches = [{"one": batch, "other": 2 * batch} for batch in tensors()]
    parts = list(features(model, [], batches))
    for place, expected in enumerate((3 * X, 2 * X * X)):
        np.testing.assert_allclose(np.concatenate([part[place] for part in parts]), expected, rtol=1e-6)
        np.testing.assert_allclose(sample_features(model, batches)[place], expected, rtol=1e-6)
