"""Data of other kinds than dense numbers: strings, optional inputs, several outputs, ragged batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

L = keras.layers
X = np.random.default_rng(0).random((6, 3), "float32")
Y = np.random.default_rng(1).random((6, 2), "float32")
WORDS = np.array([["a"], ["b"], ["a"], ["c"], ["b"], ["c"]])


class Sum(keras.layers.Layer):
    """The sum of its inputs, of which each may be None."""

    def call(self, one, other=None):
        return tf.add_n([value for value in (one, other) if value is not None])


def words_model():
    lookup = L.StringLookup(vocabulary=["a", "b", "c"], output_mode="one_hot")
    return keras.Sequential([keras.Input((1,), dtype="string"), lookup, L.Dense(2)])


def optional_model():
    inputs = [keras.Input((3,), optional=True), keras.Input((3,), optional=True)]
    return keras.Model(inputs, L.Dense(2)(Sum()(*inputs)))


def one(step, x, y):
    return [float(step(tf.nest.map_structure(part(n), x), y[2 * n : 2 * n + 2])["loss"]) for n in range(3)]


def part(number):
    return lambda array: None if array is None else array[2 * number : 2 * number + 2]


def arrays(step, x, y):
    return step.run(iter(loops.Batches(x, y, 2, shuffle=False)), 3)["loss"].tolist()


def dataset(step, x, y):
    return step.run(iter(tf.data.Dataset.from_tensor_slices((x, y)).batch(2)), 3)["loss"].tolist()


def hooked(step, x, y):
    """As `train` runs a dataset of unknown length under a callback of batches."""
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(2).filter(lambda *_: True)
    losses = []
    hook = keras.callbacks.LambdaCallback()
    hook.on_train_batch_end = lambda batch, logs: losses.append(logs["loss"] * (batch + 1) - sum(losses))
    loops.train(step, data, epochs=1, callbacks=[hook])
    return losses


CALLS = [one, arrays, dataset, hooked]


# Each kind, and each call, once; the other pairs on request.
KINDS = {
    "strings": (words_model, WORDS, (one, dataset)),
    "last left out": (optional_model, (X, None), (arrays,)),
    "first left out": (optional_model, (None, X), (hooked,)),
}


@pytest.mark.numbers("float32")
@pytest.mark.parametrize(
    "make, x, call",
    [
        pytest.param(
            make, x, call, id=f"{kind}-{call.__name__}", marks=() if call in always else pytest.mark.long
        )
        for kind, (make, x, always) in KINDS.items()
        for call in CALLS
    ],
)
def test_trains_as_keras_does(make, x, call):
    keras.utils.set_random_seed(0)
    ours, theirs = make(), make()
    theirs.set_weights(ours.get_weights())
    theirs.compile(keras.optimizers.SGD(0.1), "mse")
    expected = []
    for number in range(3):
        theirs.reset_metrics()
        batch = tf.nest.map_structure(part(number), x)
        if x is WORDS:
            batch = tf.constant(batch)
        expected.append(float(theirs.train_on_batch(batch, Y[2 * number : 2 * number + 2])))
    step = loops.TrainStep(ours, "mse", keras.optimizers.SGD(0.1))
    assert call(step, x, Y) == pytest.approx(expected, rel=1e-5)
    assert step.traces == 1


def ragged(rows=(2, 1, 3)):
    values = np.arange(sum(rows) * 3, dtype="float32").reshape(-1, 3) / 10
    return tf.RaggedTensor.from_row_lengths(values, rows)


def sequence_model(*layers):
    return keras.Sequential([keras.Input((None, 3)), *layers, L.GlobalAveragePooling1D(), L.Dense(2)])


def test_ragged_batches_are_right_or_refused():
    keras.utils.set_random_seed(0)
    x, y = ragged(), Y[:3]
    model = sequence_model()  # pooling takes them
    expected = [np.mean((model(x[n : n + 1].to_tensor()).numpy() - y[n]) ** 2) for n in range(3)]
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    assert loops.evaluate(loops.EvalStep(model, "mse"), data)["loss"] == pytest.approx(np.mean(expected))
    model = sequence_model(L.Dense(2))
    before = model.get_weights()
    with pytest.raises(TypeError, match="`x` is ragged, which the model or its loss .*padded_batch"):
        dataset(loops.TrainStep(model, "mse", "sgd"), x, y)
    with pytest.raises(TypeError, match="`y` is ragged"):
        loops.TrainStep(words_model(), "mse", "sgd").run(
            iter(data.map(lambda x, y: (WORDS[:3], tf.reduce_sum(x, -1)))), 1
        )
    for value, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, was)


@pytest.mark.numbers("float32")
def test_sparse_batches_are_those_of_dense_ones():
    """With a metric that makes its variables at the first one."""

    def step(sparse):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,), sparse=sparse), L.Dense(2)])
        return loops.TrainStep(model, "mse", keras.optimizers.SGD(0.1), metrics=[keras.metrics.R2Score()])

    x = X * (X > 0.5)
    expected = dataset(step(False), x, Y)
    for call in (dataset, hooked):
        assert call(step(True), tf.sparse.from_dense(x), Y) == pytest.approx(expected, rel=1e-5)
    alone = step(True)
    batches = tf.data.Dataset.from_tensor_slices((tf.sparse.from_dense(x), Y)).batch(4)
    sizes = [len(alone.run_batch(batch)) for batch in batches]
    assert sizes == [1, 1] and alone.traces == 1


def test_unknown_ranks_are_refused_where_they_cannot_be_used():
    def batches():
        yield X, Y

    data = tf.data.Dataset.from_generator(batches, output_types=(tf.float32, tf.float32))
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    with pytest.raises(TypeError, match="`x` has no known number of dimensions .*output_signature"):
        loops.TrainStep(model, "mse", "sgd").run(iter(data), 1)
    with pytest.raises(TypeError, match="`y` has no known number of dimensions"):
        loops.TrainStep(model, "mse", "sgd").run(
            iter(data.map(lambda x, y: (tf.ensure_shape(x, [6, 3]), y))), 1
        )
    with pytest.raises(TypeError, match="`y` is a single value in each element .*batch"):
        loops.TrainStep(model, "mse", "sgd").run(iter(tf.data.Dataset.from_tensor_slices((X, Y[:, 0]))), 1)

    def loss(model, batch):
        return tf.reduce_mean((model(tf.ensure_shape(batch[0], [None, 3])) - batch[1]) ** 2)

    expected = np.mean((model(X).numpy() - Y) ** 2)
    losses = loops.TrainStep(model, loss, "sgd").run(iter(data), 1)["loss"]
    assert losses == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("x", [WORDS, tf.constant(WORDS)], ids=["array", "tensor"])
def test_strings_where_numbers_are_wanted(x):
    numbers = keras.Sequential([keras.Input((1,)), L.BatchNormalization(), L.Dense(2)])
    step = loops.TrainStep(numbers, "mse", "sgd")
    moving = numbers.layers[0].moving_mean.numpy()
    with pytest.raises(TypeError, match="`x` holds strings, which the model takes for numbers: convert"):
        step.run(iter(loops.Batches(x, Y, 2)), 1)
    np.testing.assert_array_equal(numbers.layers[0].moving_mean.numpy(), moving)
    with pytest.raises(ValueError, match="`y` holds strings, and `loss` 'mean_squared_error' takes numbers"):
        loops.TrainStep(words_model(), "mse", "sgd")(WORDS, x)


def several_outputs():
    inputs = keras.Input((3,))
    return keras.Model(inputs, {"a": L.Dense(2)(inputs), "b": L.Dense(1)(inputs)})


def summed(model, batch, training=True):
    outputs = model(batch[0], training=training)
    return tf.add_n([tf.reduce_mean((outputs[name] - y) ** 2) for name, y in batch[1].items()]), outputs


@pytest.mark.parametrize("metric", ["mae", "accuracy", keras.metrics.MeanAbsoluteError(name="mae")])
def test_one_metric_or_loss_for_several_outputs(metric):
    y = {"a": Y, "b": Y[:, :1]}
    with pytest.raises(ValueError, match="`metrics` .* the model gives a dict of 'a', 'b': pass a function"):
        loops.TrainStep(several_outputs(), summed, "sgd", metrics=[metric])(X, y)
    with pytest.raises(ValueError, match="`loss` 'mean_squared_error' compares .* are not there yet"):
        loops.TrainStep(several_outputs(), "mse", "sgd")(X, y)
    with pytest.raises(ValueError, match="and `y` is a tuple of 2 parts"):
        loops.TrainStep(words_model(), "mse", "sgd")(WORDS, (Y, Y))

    def mae_of_a(y, outputs):
        return tf.reduce_mean(tf.abs(y["a"] - outputs["a"]), axis=-1)

    model = several_outputs()
    expected = np.mean(np.abs(model(X)["a"].numpy() - Y))
    logs = loops.EvalStep(model, summed, [mae_of_a])(X, y)
    assert float(logs["mae_of_a"]) == pytest.approx(expected, rel=1e-5)
