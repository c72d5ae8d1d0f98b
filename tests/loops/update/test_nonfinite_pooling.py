"""A NaN in the inputs is found although a max-pooling hides it from what trains."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, models

pytestmark = pytest.mark.numbers


def make(model, **options):
    return loops.TrainStep(model, "sparse_categorical_crossentropy", keras.optimizers.SGD(0.1), **options)


def pooled(kind="subclassed"):
    keras.utils.set_random_seed(0)
    if kind == "subclassed":
        return models.LeNet5()
    layers = [keras.layers.Conv2D(2, 5), keras.layers.MaxPooling2D(4)]
    inner = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    last = keras.layers.Dense(10, "softmax", name="fc3")
    return keras.Sequential([keras.Input((28, 28, 1)), inner, keras.layers.Flatten(), last])


def images(bad=np.nan):
    x = np.random.default_rng(2).random((48, 28, 28, 1), "float32")
    x[20, 13, 13, 0] = bad  # in the third batch of 8
    return x, np.random.default_rng(3).integers(0, 10, 48)


# Kind, source, bad, policy: each value, and on request each pair of two.
CASES = [
    ("subclassed", "call", np.nan, "float32"),
    ("nested", "arrays", np.inf, "float32"),
    ("nested", "dataset", np.nan, "mixed_float16"),
]
PAIRS = [
    ("nested", "call", np.inf, "float32"),
    ("subclassed", "call", np.nan, "mixed_float16"),
    ("nested", "arrays", np.nan, "float32"),
    ("subclassed", "arrays", np.nan, "mixed_float16"),
    ("nested", "dataset", np.nan, "float32"),
    ("subclassed", "dataset", np.inf, "float32"),
]


@pytest.mark.parametrize(
    ("kind", "source", "bad", "policy"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.long) for case in PAIRS)],
)
def test_bad_inputs_before_a_frozen_pooling(run_all, kind, source, bad, policy, assert_same_weights):
    """On a CPU, max-pooling turns NaN into a number, and what trains behind it sees none."""
    keras.config.set_dtype_policy(policy)
    x, y = images(bad)
    model, good = pooled(kind), pooled(kind)
    step, reference = (make(each, variables="fc3") for each in (model, good))
    for start in (0, 8):
        reference(x[start : start + 8], y[start : start + 8])
    updates = int(reference.optimizer.iterations)  # fewer than steps where the loss scale had to fall first
    with pytest.raises(loops.NonFiniteError, match=f"step {updates + 1}: ") as caught:
        run_all(step, source, x, y)
    if source != "dataset":
        assert "The inputs of this batch hold 1 value that is not finite" in str(caught.value)
    assert_same_weights(model, good, rtol=1e-6, atol=1e-7)


def test_bad_inputs_before_a_pooling_are_skipped_when_asked_for(assert_same_weights):
    x, y = images()
    model, good = pooled(), pooled()
    step, reference = make(model, variables="fc3", on_nonfinite="skip"), make(good, variables="fc3")
    values = step.run(iter(loops.Batches(x, y, 8, shuffle=False)), 6)
    for start in (0, 8, 24, 32, 40):
        reference(x[start : start + 8], y[start : start + 8])
    assert np.isnan(values["loss"]).tolist() == [False, False, True, False, False, False]
    assert_same_weights(model, good, rtol=1e-6, atol=1e-7)


class Filled(keras.layers.Layer):
    def call(self, x):
        return tf.where(tf.math.is_nan(x), tf.cast(0.5, x.dtype), x)


def test_a_model_that_fills_gaps_before_its_pooling(assert_same_weights):
    x, y = images()
    filled = np.nan_to_num(x, nan=0.5)
    model, good = (keras.Sequential([keras.Input((28, 28, 1)), Filled(), pooled()]) for _ in range(2))
    good.set_weights(model.get_weights())
    step, reference = make(model, on_nonfinite="ignore"), make(good)
    values = step.run(iter(loops.Batches(x, y, 8, shuffle=False)), 6)
    expected = reference.run(iter(loops.Batches(filled, y, 8, shuffle=False)), 6)
    np.testing.assert_allclose(values["loss"], expected["loss"], rtol=1e-6)
    assert_same_weights(model, good, rtol=1e-6, atol=1e-7)
    with pytest.raises(loops.NonFiniteError, match="The inputs of this batch hold 1 value that"):
        make(model).run(iter(loops.Batches(x, y, 8, shuffle=False)), 6)

    def fill(x, y):
        return tf.where(tf.math.is_nan(x), tf.cast(0.5, x.dtype), x), y

    make(model).run(iter(loops.Batches(x, y, 8, shuffle=False, transform=fill)), 6)


def test_whole_numbers_and_several_inputs_before_a_pooling():
    """Pixels as bytes cannot be NaN; of several inputs, any may hold it."""
    a, b = keras.Input((4, 4, 1), name="a", dtype="uint8"), keras.Input((4, 4, 1), name="b")
    both = keras.layers.Concatenate()([keras.layers.Rescaling(1 / 255)(a), b])
    flat = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(both))
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(3, "softmax")(flat))
    step, y = make(model), np.array([0, 1, 2, 0])
    x = {"a": np.ones((4, 4, 4, 1), "uint8"), "b": np.ones((4, 4, 4, 1), "float32")}
    assert np.isfinite(step(x, y)["loss"])
    x["b"][0, 0, 0, 0] = np.nan
    with pytest.raises(loops.NonFiniteError):
        step(x, y)
