"""Models that ask how many examples a batch has, or have a state for each of so many."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

L = keras.layers
X = np.random.default_rng(0).random((7, 4, 3), "float32")
Y = np.random.default_rng(1).random((7, 2), "float32")


class Asks(keras.Model):
    """Goes through the examples one by one, in Python."""

    def __init__(self):
        super().__init__()
        self.head = L.Dense(2)

    def call(self, x):
        return tf.concat([self.head(x[n : n + 1, 0]) for n in range(x.shape[0])], 0)


def asking(size):
    model = Asks()
    model(X)
    return model


def stateful(size):
    return keras.Sequential(
        [keras.Input(batch_shape=(size, 4, 3)), L.SimpleRNN(3, stateful=True), L.Dense(2)]
    )


def sized_input(size):
    """A model of any size of batches, although its input says one."""
    return keras.Sequential([keras.Input(batch_shape=(size, 4, 3)), L.Flatten(), L.Dense(2)])


def one(step, size):
    firsts = range(0, len(X), size)
    return [float(step(X[n : n + size], Y[n : n + size])["loss"]) for n in firsts]


def arrays(step, size):
    return step.run(iter(loops.Batches(X, Y, size, shuffle=False)), 99)["loss"].tolist()


def dataset(step, size):
    return step.run(iter(tf.data.Dataset.from_tensor_slices((X, Y)).batch(size)), 99)["loss"].tolist()


def by_tape(model, size):
    optimizer, losses = keras.optimizers.SGD(0.1), []
    for n in range(0, len(X), size):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X[n : n + size], training=True) - Y[n : n + size]) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize(
    "make, size, call, traces",
    [
        (asking, 3, one, 2),
        pytest.param(asking, 3, arrays, 2, marks=pytest.mark.long),
        (stateful, 1, one, 1),
        pytest.param(stateful, 1, arrays, 1, marks=pytest.mark.long),
        pytest.param(stateful, 1, dataset, 1, marks=pytest.mark.long),
        (stateful, 7, arrays, 2),  # the second without the single thread: an RNN has a loop of its own
        pytest.param(sized_input, 3, arrays, 1, marks=pytest.mark.long),
        (sized_input, 3, dataset, 1),
    ],
)
def test_trains_as_a_tape_does(make, size, call, traces):
    keras.utils.set_random_seed(0)
    ours, theirs = make(size), make(size)
    theirs.set_weights(ours.get_weights())
    step = loops.TrainStep(ours, "mse", keras.optimizers.SGD(0.1))
    assert call(step, size) == pytest.approx(by_tape(theirs, size), rel=1e-4)
    assert step.traces == traces
    assert int(step.batches_done.numpy()) == -(-len(X) // size)


def test_epochs_of_a_model_that_asks():
    keras.utils.set_random_seed(0)
    model = asking(3)
    expected = np.mean([np.mean((model(X[n : n + 1]).numpy() - Y[n]) ** 2) for n in range(7)])
    data = loops.Batches(X, Y, 3, shuffle=False)
    assert loops.evaluate(loops.EvalStep(model, "mse"), data)["loss"] == pytest.approx(expected, rel=1e-5)
    step = loops.TrainStep(model, "mse", keras.optimizers.SGD(0.0))
    assert loops.train(step, data, epochs=2).history["loss"] == pytest.approx([expected] * 2, rel=1e-5)


def test_what_such_models_cannot_take_is_refused():
    step = loops.TrainStep(asking(3), "mse", "sgd")
    with pytest.raises(ValueError, match="`data` is a dataset that leaves open .*drop_remainder=True"):
        dataset(step, 3)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3, drop_remainder=True)
    assert len(step.run(iter(data), 9)["loss"]) == 2
    step = loops.TrainStep(stateful(3), "mse", "sgd")
    for wrong in (lambda: step(X[:2], Y[:2]), lambda: arrays(step, 2), lambda: arrays(step, 3)):
        with pytest.raises(
            ValueError, match="`x` has a batch of [12] examples, .*states for 3: pass batches"
        ):
            wrong()
    with pytest.raises(ValueError, match="`x` has a batch of 2 examples"):
        step.run(iter(data.unbatch().batch(2, drop_remainder=True)), 1)


def test_an_error_of_another_kind_is_the_models():
    class Broken(Asks):
        def call(self, x):
            raise TypeError("not that way")

    model = Broken()
    model.head.build((None, 3))
    model.built = True
    step = loops.TrainStep(model, "mse", "sgd")
    for call in (one, arrays, dataset):
        with pytest.raises(TypeError, match="not that way"):
            call(step, 3)
