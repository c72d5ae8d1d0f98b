"""Evaluation, against `model.evaluate`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers

RANDOM = np.random.RandomState(0)
X = RANDOM.rand(21, 6).astype("float32")
Y = RANDOM.randint(0, 4, 21)
WEIGHT = RANDOM.rand(21).astype("float32")
LOSS = "sparse_categorical_crossentropy"


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(4, "softmax"),
        ]
    )
    for weight in model.weights:  # moving statistics away from where they start
        weight.assign(weight + 0.3 * RANDOM.rand(*weight.shape).astype("float32"))
    model.compile(loss=LOSS, weighted_metrics=["accuracy"])
    return model


def _dataset(weighted):
    arrays = (X, Y, WEIGHT) if weighted else (X, Y)
    return tf.data.Dataset.from_tensor_slices(arrays).batch(8)


KINDS = ["batches", "shuffled", "dataset", "unknown length"]


@pytest.mark.parametrize(
    "kind, weighted",
    [
        pytest.param(kind, weighted, marks=() if weighted == number % 2 else pytest.mark.long)
        for number, kind in enumerate(KINDS)
        for weighted in (False, True)
    ],
)
def test_evaluate_is_that_of_keras(model, kind, weighted):
    weight = WEIGHT if weighted else None
    expected = model.evaluate(X, Y, 8, verbose=0, sample_weight=weight, return_dict=True)
    before = [variable.numpy() for variable in model.variables]
    data = {
        "batches": lambda: loops.Batches(X, Y, 8, shuffle=False, sample_weight=weight),
        "shuffled": lambda: loops.Batches(X, Y, 4, sample_weight=weight),
        "dataset": lambda: _dataset(weighted),
        "unknown length": lambda: _dataset(weighted).filter(lambda *batch: True),
    }[kind]()
    step = loops.EvalStep(model, LOSS, ["accuracy"])
    for _ in range(2):
        assert loops.evaluate(step, data) == pytest.approx(expected, rel=1e-6)
    assert step.traces == 1
    for old, variable in zip(before, model.variables):
        np.testing.assert_array_equal(old, variable.numpy())


def test_one_batch_is_that_of_keras(model):
    step = loops.EvalStep(model, LOSS, ["accuracy"])
    model.reset_metrics()  # before 3.13, Keras returned the mean since the last reset
    expected = model.test_on_batch(X, Y, return_dict=True)
    values = {name: float(value) for name, value in step(X, Y).items()}
    assert values == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-6)


def test_run_gives_each_batch(model):
    step = loops.EvalStep(model, LOSS, ["accuracy"])
    values = step.run(iter(loops.Batches(X, Y, 8, shuffle=False)), 10)
    for number in range(3):
        part = slice(8 * number, 8 * number + 8)
        model.reset_metrics()
        loss, accuracy = model.test_on_batch(X[part], Y[part])
        assert values["loss"][number] == pytest.approx(float(loss), rel=1e-6)
        assert values["accuracy"][number] == pytest.approx(float(accuracy), rel=1e-6)


def test_some_of_the_data(model):
    step = loops.EvalStep(model, LOSS)
    expected = model.evaluate(X[:16], Y[:16], 8, verbose=0, return_dict=True)["loss"]
    some = loops.evaluate(step, loops.Batches(X, Y, 8, shuffle=False), steps=2)
    assert some == {"loss": pytest.approx(expected, rel=1e-6)}
    endless = loops.evaluate(step, _dataset(False).take(2).repeat(), steps=4)
    assert endless["loss"] == pytest.approx(expected, rel=1e-6)


def test_batches_stay_where_they_are(model):
    data = loops.Batches(X, Y, 8)
    list(data)
    loops.evaluate(loops.EvalStep(model, LOSS), data)
    assert data.epoch == 1


def test_metrics_with_state_start_anew(model):
    step = loops.EvalStep(model, LOSS, [keras.metrics.SparseCategoricalAccuracy(name="a")])
    data = loops.Batches(X, Y, 8)
    first = loops.evaluate(step, data)
    assert loops.evaluate(step, data) == pytest.approx(first)
    assert first["a"] == pytest.approx(np.mean(model.predict(X, verbose=0).argmax(-1) == Y))


@pytest.mark.parametrize("returns_predictions", [False, True])
def test_a_loss_function_is_told(model, returns_predictions):
    def loss(model, batch, training=True):
        x, y = batch
        assert training is False
        predictions = model(x, training=training)
        value = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, predictions))
        return (value, predictions) if returns_predictions else value

    expected = model.evaluate(X, Y, 8, verbose=0, return_dict=True)
    metrics = ["accuracy"] if returns_predictions else []
    ours = loops.evaluate(loops.EvalStep(model, loss, metrics), loops.Batches(X, Y, 8))
    assert ours == pytest.approx({name: expected[name] for name in ours}, rel=1e-6)


def test_a_loss_function_that_cannot_be_told(model):
    with pytest.raises(ValueError, match="`loss` is a function without a parameter `training`"):
        loops.EvalStep(model, lambda model, batch: 0.0)


@pytest.mark.parametrize("steps", [0, True, 2.5])
def test_bad_steps(model, steps):
    with pytest.raises((TypeError, ValueError), match=f"`steps` must be .*at least 1, got {steps}"):
        loops.evaluate(loops.EvalStep(model, LOSS), loops.Batches(X, Y, 8), steps=steps)


def test_a_training_step_is_no_evaluation():
    step = loops.TrainStep(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), "mse", "sgd")
    with pytest.raises(TypeError, match="`step` must be a `loops.EvalStep`, not .* make one of the model"):
        loops.evaluate(step, loops.Batches(X, Y, 8))
    assert int(step.batches_done) == 0


def test_data_that_does_not_do(model):
    step = loops.EvalStep(model, LOSS)
    with pytest.raises(TypeError, match="`data` must be a `loops.Batches`"):
        loops.evaluate(step, (X, Y))
    with pytest.raises(ValueError, match="`data` has no end: .* `steps=...`"):
        loops.evaluate(step, _dataset(False).repeat())
    with pytest.raises(ValueError, match="`data` is empty"):
        loops.evaluate(step, _dataset(False).filter(lambda x, y: False))
