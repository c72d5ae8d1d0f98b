"""How often a step is traced for examples of other shapes, and what it says to shapes that do not fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers

LENGTHS = (4, 7, 5, 9, 4)


def sequence_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            keras.layers.Dense(4, "tanh"),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )


def sequences(length):
    random = np.random.default_rng(length)
    return random.normal(size=(6, length, 3)).astype("float32"), random.random((6, 2), "float32")


def one(step, x, y):
    return float(step(x, y)["loss"])


def arrays(step, x, y):
    return float(step.run(iter(loops.Batches(x, y, len(x), shuffle=False)), 1)["loss"][0])


def dataset(step, x, y):
    return float(step.run(iter(tf.data.Dataset.from_tensor_slices((x, y)).batch(len(x))), 1)["loss"][0])


CALLS = [one, arrays, dataset]


@pytest.mark.parametrize(
    "evaluates, call",
    [
        *((False, one), (False, arrays), (True, dataset)),
        *(
            pytest.param(*case, marks=pytest.mark.release)
            for case in ((False, dataset), (True, one), (True, arrays))
        ),
    ],
)
def test_lengths_are_one_more_trace(evaluates, call):
    model, reference = sequence_model(), sequence_model()
    step = loops.EvalStep(model, "mse") if evaluates else loops.TrainStep(model, "mse", "sgd")
    reference.compile("sgd", "mse")
    for number, length in enumerate(LENGTHS):
        x, y = sequences(length)
        theirs = reference.test_on_batch if evaluates else reference.train_on_batch
        reference.reset_metrics()
        assert call(step, x, y) == pytest.approx(float(theirs(x, y)), rel=1e-5)
        assert step.traces == min(number + 1, 2)


@pytest.mark.parametrize("call", CALLS)
def test_each_dimension_opens_once(call):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.Conv2D(2, 3), keras.layers.GlobalMaxPooling2D()]
    )
    step = loops.TrainStep(model, "mse", "sgd")
    for size, traces in (((8, 8), 1), ((9, 8), 2), ((9, 7), 3), ((11, 12), 3), ((5, 5), 3), ((8, 8), 3)):
        assert np.isfinite(call(step, np.ones((2, *size, 1), "float32"), np.ones((2, 2), "float32")))
        assert step.traces == traces


@pytest.mark.parametrize("each", [False, True], ids=["many", "each"])
@pytest.mark.parametrize("known", [False, True], ids=["unknown length", "known length"])
def test_an_open_dataset_is_one_trace(known, each):
    def generate():
        for length in LENGTHS:
            yield sequences(length)

    specs = tf.TensorSpec([None, None, 3], tf.float32), tf.TensorSpec([None, 2], tf.float32)
    data = tf.data.Dataset.from_generator(generate, output_signature=specs)
    if known:
        data = data.apply(tf.data.experimental.assert_cardinality(len(LENGTHS)))
    hook = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    step = loops.TrainStep(sequence_model(), "mse", "sgd")
    loops.train(step, data, epochs=2, callbacks=[hook] if each else [])
    assert step.traces == 1
    assert int(step.optimizer.iterations.numpy()) == 2 * len(LENGTHS)


def test_other_dtypes_and_ranks_are_other_kinds():
    step = loops.EvalStep(sequence_model(), "mse")
    x, y = sequences(4)
    for targets in (y, y.astype("int32"), y[..., None], y, y.astype("int32")):
        step(x, targets)
    assert step.traces == 3


class Flat(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(2)

    def call(self, x):
        return self.dense(self.flatten(x))


def flat():
    model = Flat()
    model(np.ones((1, 4, 3), "float32"))
    return model


def fixed():
    inputs = keras.Input((4, 3))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(inputs)))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("make", [flat, fixed])
def test_a_shape_that_does_not_fit_is_told_by_keras(make, call):
    model = make()
    step = loops.TrainStep(model, "mse", "sgd")
    call(step, *sequences(4))
    before = model.get_weights()
    for length in (5, 6, 5):
        x, y = sequences(length)
        with pytest.raises(ValueError, match="incompatible with the layer") as ours:
            call(step, x, y)
        if make is flat:
            assert f"shape (None, {3 * length})" in str(ours.value)
        else:
            assert f"found shape=(None, {length}, 3)" in str(ours.value)
    for left, right in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)
    call(step, *sequences(4))
    assert step.traces == 1


class AsksSizes(keras.Model):
    """Reads a size as a number while it is traced, as users' models do."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(keras.ops.sum(x, 1) * (1.0 / x.shape[1]))


@pytest.mark.parametrize("call", CALLS)
def test_a_model_that_asks_for_sizes_is_traced_for_each(call):
    model, shapes = AsksSizes(), []
    model(np.ones((1, 4, 3), "float32"))
    step = loops.EvalStep(model, "mse")
    for length in LENGTHS:
        x, y = sequences(length)
        expected = np.mean((model(x).numpy() - y) ** 2)
        assert call(step, x, y) == pytest.approx(expected, rel=1e-5)
        shapes.append(step.traces)
    assert shapes[-1] == shapes[-2], "a shape seen before must not trace again"


@pytest.mark.parametrize("call", [one, arrays])
def test_the_check_of_a_shape_sees_the_transformed_batch(call):
    if call is arrays:

        def call(step, x, y):
            data = loops.Batches(x, y, 3, transform=lambda x, y, seed: (x[:, :4], y))
            return float(step.run(iter(data), 2)["loss"][0])

    else:

        def call(step, x, y):
            return one(step, x[:, :4], y)

    step = loops.TrainStep(fixed(), "mse", "sgd")
    for length in (6, 9):
        call(step, *sequences(length))
