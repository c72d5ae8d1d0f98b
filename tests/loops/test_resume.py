"""A run that was ended and is taken up again, against one that was not."""

import os

import keras
import numpy as np
import pytest

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


def _weights(model):
    return [weight.numpy() for weight in model.weights]


def _assert_same_weights(one, other, atol=1e-6):
    for a, b in zip(_weights(one), _weights(other)):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_backup_and_restore_runs(tmp_path, save_freq):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=save_freq)
    step, plain = _step(), _step()
    loops.train(step, _data(), epochs=2, callbacks=[backup])
    loops.train(plain, _data(), epochs=2)
    _assert_same_weights(step.model, plain.model, 0.0)


class PowerCut(keras.callbacks.Callback):
    """Ends a run with an error at the beginning of its third epoch, or in the middle of it."""

    def __init__(self, batch=None):
        super().__init__()
        self.batch, self.epoch = batch, 0
        if batch is not None:
            self.on_train_batch_end = self._batch_end

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == 2 and self.batch is None:
            raise OSError("power cut")

    def _batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == self.batch:
            raise OSError("power cut")


def _shuffled():
    return loops.Batches(X, Y, 5, seed=3)


def _adam():
    return loops.TrainStep(_model(), LOSS, keras.optimizers.Adam(0.05))


def _straight(data, **run):
    step = _adam()
    loops.train(step, data, epochs=4, **run)
    return step.model


def _cut_and_resumed(folder, data, again, cut, **run):
    with pytest.raises(OSError, match="power cut"):
        backup = keras.callbacks.BackupAndRestore(folder)
        loops.train(_adam(), data, epochs=4, callbacks=[backup, cut], **run)
    assert os.listdir(folder), "an error must leave the backup in place"
    step = _adam()
    history = loops.train(
        step, again, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(folder)], **run
    )
    assert history.epoch == [2, 3]
    assert step.model._initial_epoch is None
    return step.model


@pytest.mark.parametrize("batch", [None, 1], ids=["between epochs", "in an epoch"])
@pytest.mark.parametrize("same", [False, True], ids=["new data", "same data"])
@pytest.mark.parametrize("steps", [None, 3, 5, 13])
def test_a_backup_goes_on_in_the_order_of_an_uninterrupted_run(tmp_path, steps, same, batch):
    data, run = _shuffled(), {"steps_per_epoch": steps}
    again = data if same else _shuffled()
    resumed = _cut_and_resumed(tmp_path, data, again, PowerCut(batch), **run)
    straight = _shuffled()
    _assert_same_weights(resumed, _straight(straight, **run))
    assert again.epoch == straight.epoch == -(-4 * (steps or 5) // 5)


@pytest.mark.parametrize("steps", [None, 3])
def test_a_backup_in_data_that_was_read_before(tmp_path, steps):
    """What a script read before the run, it reads again before it takes the run up."""

    def used():
        data = _shuffled()
        for _ in data:
            pass
        loops.train(_step(), data, epochs=1, **run)
        return data

    run = {"steps_per_epoch": steps}
    straight = _straight(used(), **run)
    data = used()
    before = data.epoch
    _assert_same_weights(_cut_and_resumed(tmp_path / "a", data, data, PowerCut(1), **run), straight)
    assert data.epoch > before
    _assert_same_weights(_cut_and_resumed(tmp_path / "b", used(), used(), PowerCut(), **run), straight)


def test_a_run_that_raises_leaves_the_data_where_it_was():
    data = _shuffled()
    loops.train(_step(), data, epochs=2)
    with pytest.raises(OSError, match="power cut"):
        loops.train(_step(), data, epochs=4, callbacks=[PowerCut(3)])
    assert data.epoch == 2


def test_runs_in_a_row_read_epochs_in_a_row():
    apart, together = _step(), _step()
    data = _shuffled()
    for _ in range(3):
        loops.train(apart, data, epochs=1)
    loops.train(together, _shuffled(), epochs=3)
    _assert_same_weights(apart.model, together.model, 0.0)
    assert data.epoch == 3


@pytest.mark.parametrize("steps", [None, 3])
def test_who_else_reads_the_data_does_not_matter(steps):
    data, step = _shuffled(), _step()
    peek = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: next(iter(data)))
    loops.train(step, data, epochs=3, steps_per_epoch=steps, callbacks=[peek])
    plain = _step()
    loops.train(plain, _shuffled(), epochs=3, steps_per_epoch=steps)
    _assert_same_weights(step.model, plain.model, 0.0)
