"""The numbers of steps that callbacks are told: each batch has its own, whatever became of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers

X = np.random.RandomState(0).rand(22, 4).astype("float32")
Y = np.random.RandomState(1).rand(22, 2).astype("float32")
BROKEN = X.copy()
BROKEN[6] = np.nan  # in the second of five batches


class Numbers(loops.StepsCallback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_steps_end(self, first, values):
        self.seen += range(first, first + len(values["loss"]))


def make(optimizer="sgd", **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    return loops.TrainStep(model, "mse", optimizer, **options)


def batches(x=X):
    return loops.Batches(x, Y, 5, shuffle=False)


def told(step, epochs=1, x=X, callbacks=(), data=None):
    numbers = Numbers()
    loops.train(step, data or batches(x), epochs=epochs, callbacks=[*callbacks, numbers])
    return numbers.seen


@pytest.mark.parametrize("accumulate", [2, 3])
def test_after_half_an_update(accumulate):
    step = make(accumulate=accumulate)
    assert [told(step) for _ in range(3)] == [[*range(n, n + 5)] for n in (1, 6, 11)]


def test_after_a_change_of_what_trains():
    step = make(accumulate=2)
    assert told(step) == [*range(1, 6)]
    step.train_only("kernel")
    assert told(step) == [*range(6, 11)]


def test_after_skipped_steps():
    step = make(on_nonfinite="skip")
    assert told(step, 2, BROKEN) == [*range(1, 11)]
    assert int(step.optimizer.iterations.numpy()) == 8
    assert told(step) == [*range(11, 16)]


def test_after_an_error():
    step = make()
    with pytest.raises(loops.NonFiniteError):
        told(step, 1, BROKEN)
    assert told(step) == [*range(2, 7)]


def test_after_calls_outside_of_train():
    step = make()
    step(X, Y)
    step.run(iter(batches()), 3)
    step.run(iter(tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)), 9)
    assert int(step.batches_done.numpy()) == 6
    assert told(step) == [*range(7, 12)]


def test_with_an_optimizer_of_earlier_steps():
    optimizer = keras.optimizers.SGD()
    optimizer.iterations.assign(40)
    assert told(make(optimizer, accumulate=2)) == [*range(81, 86)]


@pytest.mark.parametrize("unknown", [False, True], ids=["batches", "unknown length"])
def test_of_a_run_taken_up_again(tmp_path, unknown):
    """A backup holds the optimizer's count of updates, which lacks the steps that were skipped."""

    def data():
        whole = tf.data.Dataset.from_tensor_slices((BROKEN, Y)).batch(5).filter(lambda x, y: True)
        return whole if unknown else batches(BROKEN)

    def cut(epoch, logs):
        if epoch == 1:
            raise OSError("power cut")

    def run(*callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path)
        step = make(on_nonfinite="skip")
        return told(step, 3, callbacks=[backup, *callbacks], data=data())

    with pytest.raises(OSError, match="power cut"):
        run(keras.callbacks.LambdaCallback(on_epoch_begin=cut))
    # Where the length of an epoch is not known, the updates are all there is to count by.
    first = 5 if unknown else 6
    assert run() == [*range(first, first + 10)]
