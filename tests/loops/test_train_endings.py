"""How a run ends before its time, and what is left then."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

RANDOM = np.random.RandomState(0)
X = RANDOM.rand(22, 4).astype("float32")
Y = RANDOM.randint(0, 3, 22)
LOSS = "sparse_categorical_crossentropy"


def _model():
    keras.utils.set_random_seed(11)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3, "softmax"),
        ]
    )


def _step(rate=0.1, metrics=("accuracy",), **options):
    return loops.TrainStep(_model(), LOSS, keras.optimizers.SGD(rate), metrics=metrics, **options)


def _data(x=X, y=Y, **options):
    return loops.Batches(x, y, 5, shuffle=False, **options)


def _dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays or (X, Y)).batch(5)


def _weights(model):
    return [weight.numpy() for weight in model.weights]


def _assert_same_weights(one, other, atol=1e-6):
    for a, b in zip(_weights(one), _weights(other)):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def _assert_same_logs(ours, theirs, rel=2e-6):
    assert set(ours.history) == set(theirs.history)
    for name, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=rel, atol=2e-6, err_msg=name)


class Reader(loops.StepsCallback):
    def __init__(self):
        super().__init__()
        self.numbers, self.losses, self.ended = [], [], 0

    def on_train_steps_end(self, first, values):
        self.numbers += range(first, first + len(values["loss"]))
        self.losses += values["loss"].tolist()

    def on_train_end(self, logs=None):
        self.ended += 1


class Every(keras.callbacks.Callback):
    """Does nothing, after every step."""

    def on_train_batch_end(self, batch, logs=None):
        pass


class At(keras.callbacks.Callback):
    """Does something at the end of one batch of the whole run."""

    def __init__(self, batch, action):
        super().__init__()
        self.left, self.action = batch, action

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.action(self.model)


def test_terminate_on_nan():
    x = X.copy()
    x[12] = np.nan  # in the third batch
    step = _step(on_nonfinite="ignore")
    history = loops.train(
        step, _data(x), epochs=3, callbacks=[keras.callbacks.TerminateOnNaN()]
    )
    assert len(history.epoch) == 1 and np.isnan(history.history["loss"][0])
    assert int(step.optimizer.iterations.numpy()) == 3


def test_a_batch_hook_stops_training():
    def stop(model):
        model.stop_training = True

    step, reference = _step(), _model()
    reference.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"])
    run = {"epochs": 5}
    history = loops.train(step, _data(), validation=_data(), callbacks=[At(7, stop)], **run)
    expected = reference.fit(
        X, Y, 5, shuffle=False, verbose=0, validation_data=(X, Y), callbacks=[At(7, stop)], **run
    )
    _assert_same_logs(history, expected)
    assert int(step.optimizer.iterations.numpy()) == 7
    # A new call starts anew.
    assert len(loops.train(step, _data(), epochs=2).epoch) == 2


def test_a_steps_callback_stops_long_epochs():
    class Stop(Reader):
        def on_train_steps_end(self, first, values):
            super().on_train_steps_end(first, values)
            self.model.stop_training = len(self.numbers) >= 20

    stop = Stop()
    loops.train(_step(), _data(), epochs=1, steps_per_epoch=10**6, callbacks=[stop])
    assert 20 <= len(stop.numbers) < 10**4


def test_interrupt_keeps_what_was_learned():
    def interrupt(model):
        raise KeyboardInterrupt

    step, plain, reader = _step(), _step(), Reader()
    history = loops.train(step, _data(), epochs=4, callbacks=[reader, At(8, interrupt)])
    expected = loops.train(plain, _data(), epochs=1)
    _assert_same_logs(history, expected, 1e-7)
    assert reader.ended == 1 and reader.numbers == list(range(1, 9))
    assert not hasattr(step.model, "optimizer") and step.model.stop_training
    plain.run(_data().iterator(), 3)
    _assert_same_weights(step.model, plain.model, 0.0)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("kind", ["batches", "dataset"])
def test_nonfinite_in_the_middle(each, kind):
    x = X.copy()
    x[16] = np.nan  # in the fourth batch
    step, plain, reader = _step(), _step(), Reader()
    loops.train(step, _data(), epochs=2)  # then calls hold more than one step
    loops.train(plain, _data(), epochs=2)
    data = _data(x) if kind == "batches" else _dataset(x, Y)
    callbacks = [reader, Every()] if each else [reader]
    with pytest.raises(loops.NonFiniteError, match="step 14: ") as caught:
        loops.train(step, data, epochs=3, callbacks=callbacks)
    expected = plain.run(_data().iterator(), 3)["loss"]
    assert caught.value.step == 14
    assert reader.numbers == [11, 12, 13] and reader.ended == 1
    np.testing.assert_allclose(reader.losses, expected, rtol=1e-6)
    _assert_same_weights(step.model, plain.model)
    assert not hasattr(step.model, "optimizer")
