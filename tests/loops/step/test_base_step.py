"""What a step refuses, and what is left untouched when it does."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, size=20)


def make(metrics=()):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    return loops.TrainStep(model, "sparse_categorical_crossentropy", "sgd", metrics=metrics)


def test_an_ignored_class_is_no_error():
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    model = make().model
    assert np.isfinite(float(loops.TrainStep(model, loss, "sgd")(X, np.where(Y == 2, -1, Y))["loss"]))


def test_bad_batches():
    step = make()
    with pytest.raises(ValueError, match="differ in length: `x` has 20, `y` has 19"):
        step(X, Y[:19])
    with pytest.raises(ValueError, match="`x` is empty"):
        step(X[:0], Y[:0])
    with pytest.raises(ValueError, match="`y` is a single value, 1: it needs a first dimension"):
        step(X, 1)
    with pytest.raises(TypeError, match="`y` is an array of dtype object, of which TensorFlow makes no"):
        step(X, np.array([None] * 20))


def test_bad_runs():
    step, data = make(), loops.Batches(X, Y, 10)
    with pytest.raises(ValueError, match=r"`iterator` is .*pass `iter\(data\)`"):
        step.run(data, 1)
    for steps, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=f"`steps` must be .*at least 1, got {steps}"):
            step.run(iter(data), steps)
    iterator = iter(data)
    assert len(step.run(iterator, 99)["loss"]) == 2
    with pytest.raises(ValueError, match="`iterator` has no batch left"):
        step.run(iterator, 1)


@pytest.mark.numbers
def test_metrics_with_state_run_on_until_reset():
    step = make([keras.metrics.SparseCategoricalAccuracy(name="sparse"), "accuracy"])
    step.optimizer.learning_rate = 0.0
    first, second = step(X[:10], Y[:10]), step(X[10:], Y[10:])
    mean = (float(first["accuracy"]) + float(second["accuracy"])) / 2
    assert float(first["sparse"]) == pytest.approx(float(first["accuracy"]))
    assert float(second["sparse"]) == pytest.approx(mean)
    step.reset_metrics()
    assert float(step(X[10:], Y[10:])["sparse"]) == pytest.approx(float(second["accuracy"]))


def test_names_of_the_values():
    assert list(make(["accuracy"])(X, Y)) == ["loss", "accuracy"]
    values = make(["accuracy"]).run(iter(loops.Batches(X, Y, 10)), 2)
    assert {name: array.shape for name, array in values.items()} == {"loss": (2,), "accuracy": (2,)}


def test_lists_are_arrays():
    step = make()
    values = step([[0.1, 0.2, 0.3, 0.4]], [2])
    assert np.isfinite(float(values["loss"]))
    with pytest.raises(TypeError, match="`x` holds strings, which the model takes for numbers"):
        step([["a", "b", "c", "d"]], [2])


def test_an_error_after_many_calls_keeps_all_their_records(monkeypatch):
    monkeypatch.setattr("gradloop.loops.step.base_step.CAPACITY", 3)
    x = X.copy()
    x[14] = np.nan
    step = make()
    with pytest.raises(loops.NonFiniteError, match="step 8: ") as caught:
        step.run(iter(loops.Batches(x, Y, 2, shuffle=False)), 10)
    assert len(caught.value.records) == 7


def test_run_batch_records_one_step():
    records = make(["accuracy"]).run_batch((tf.constant(X), tf.constant(Y)))
    assert len(records) == 1 and list(records.values()) == ["loss", "accuracy"]


RAGGED = tf.ragged.constant([[1.0], [2.0, 3.0]])
SPARSE = tf.sparse.from_dense(X)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (RAGGED, r"is a RaggedTensor, which cannot be trained on: pad it, `{}.to_tensor\(\)`"),
        (SPARSE, r"is a SparseTensor, which cannot be trained on: .* `tf.sparse.to_dense\({}\)`"),
    ],
    ids=["ragged", "sparse"],
)
def test_ragged_and_sparse_tensors_are_refused(wrong, message):
    step = make()
    for batch, name in (((wrong, Y), "x"), (({"a": X, "b": wrong}, Y), r"x\['b'\]"), ((X, wrong), "y")):
        match = f"`{name}` {message.format(name)}"
        with pytest.raises(TypeError, match=match):
            step(*batch)
        with pytest.raises(TypeError, match=match):
            loops.Batches(*batch, 2)
    assert step.traces == 0


def test_a_step_does_not_keep_data_alive():
    step, data = make(), loops.Batches(X, Y, 10)
    step.run(iter(data), 2)
    alive = weakref.ref(data)
    del data
    gc.collect()
    assert alive() is None
    with pytest.raises(loops.LabelError, match="holds the label -1"):
        step.run(iter(loops.Batches(X, np.full(20, -1), 10)), 2)


def test_weights_without_targets_are_refused():
    with pytest.raises(ValueError, match="`sample_weight` needs `y`"):
        make()(X, None, np.ones(20))
