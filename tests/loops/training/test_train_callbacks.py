"""train with Keras' callbacks, as `model.fit` treats them."""

import csv

import keras
import numpy as np
import pytest

from gradloop import loops

pytestmark = pytest.mark.numbers


class Hooks(keras.callbacks.Callback):
    """Writes down every hook that is called; with batch hooks or without."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train begin")

    def on_train_end(self, logs=None):
        self.calls.append("train end")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch begin {epoch}")

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(f"epoch end {epoch} {sorted(logs)}")

    def on_test_begin(self, logs=None):
        self.calls.append("test begin")

    def on_test_end(self, logs=None):
        self.calls.append(f"test end {sorted(logs)}")


class BatchHooks(Hooks):
    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(f"begin {batch}")

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(f"end {batch} {sorted(logs)}")

    def on_test_batch_begin(self, batch, logs=None):
        self.calls.append(f"test begin {batch}")

    def on_test_batch_end(self, batch, logs=None):
        self.calls.append(f"test end {batch} {sorted(logs)}")


@pytest.mark.parametrize(
    "hooks, kind",
    [
        (Hooks, "generated"),
        (BatchHooks, "dataset"),
        *(
            pytest.param(*case, marks=pytest.mark.release)
            for case in ((Hooks, "dataset"), (BatchHooks, "generated"))
        ),
    ],
)
def test_hooks_are_called_as_fit_calls_them(problem, hooks, kind):
    ours, theirs = hooks(), hooks()
    reference, validation = problem.model(), (problem.x[:7], problem.y[:7])
    reference.compile("adam", problem.loss, metrics=["accuracy"])
    fit = {"validation_data": validation, "validation_batch_size": 5, "verbose": 0}
    reference.fit(problem.dataset(), shuffle=False, epochs=2, callbacks=[theirs], **fit)
    data = getattr(problem, kind)()
    loops.train(problem.step(), data, epochs=2, validation=problem.data(*validation), callbacks=[ours])
    assert ours.calls == theirs.calls


def test_callbacks_see_the_run(problem):
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.update(self.params, optimizer=self.model.optimizer, stop=self.model.stop_training)

    step = problem.step()
    history = loops.train(step, problem.data(), epochs=2, callbacks=(Look(),))
    assert seen["epochs"] == 2 and seen["steps"] == 5 and seen["stop"] is False
    assert seen["optimizer"] is step.optimizer
    assert step.model.optimizer is step.optimizer  # of which `model.save` keeps the state
    assert step.model.history is history
    other = keras.callbacks.History()
    assert loops.train(step, problem.generated(), epochs=1, callbacks=[Look(), other]) is other
    assert seen["steps"] is None


def test_a_compiled_model_keeps_its_optimizer(problem):
    step = problem.step()
    step.model.compile("sgd", "mse")
    own = step.model.optimizer
    loops.train(step, problem.data(), epochs=1)
    assert step.model.optimizer is own


def test_early_stopping_restores_the_best_weights(problem):
    step = problem.step(rate=0.5)
    kept = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept[epoch] = (logs["val_loss"], self.model.get_weights())

    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    validation = problem.data(problem.x[:9], (problem.y[:9] + 1) % 3)
    history = loops.train(
        step, problem.data(), epochs=30, validation=validation, callbacks=[Keep(), stopping]
    )
    best = int(np.argmin(history.history["val_loss"]))
    assert len(history.epoch) == best + 3 < 30
    for weight, expected in zip(step.model.get_weights(), kept[best][1]):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        lambda: keras.callbacks.ReduceLROnPlateau("loss", 0.3, patience=1, min_delta=10.0),
    ],
    ids=["scheduler", "plateau"],
)
def test_learning_rate_callbacks(problem, assert_same_weights, assert_same_logs, make):
    reference, step = problem.model(), problem.step()
    reference.compile(keras.optimizers.SGD(0.1), problem.loss, metrics=["accuracy"])
    expected = reference.fit(problem.x, problem.y, 5, 4, shuffle=False, verbose=0, callbacks=[make()])
    history = loops.train(step, problem.data(), epochs=4, callbacks=[make()])
    assert_same_logs(history, expected)
    assert len(set(history.history["learning_rate"])) > 1
    assert_same_weights(step.model, reference, 2e-6)
    assert step.traces == 1


@pytest.mark.parametrize("save_freq", ["epoch", 3])
def test_model_checkpoint(problem, assert_same_weights, tmp_path, save_freq):
    step = problem.step()
    path = tmp_path / ("{epoch}.keras" if save_freq == "epoch" else "{epoch}-{batch}.keras")
    saver = keras.callbacks.ModelCheckpoint(str(path), save_freq=save_freq)
    loops.train(step, problem.data(), epochs=2, callbacks=[saver])
    names = {"epoch": ["1", "2"], 3: ["1-3", "2-1", "2-4"]}[save_freq]
    assert sorted(file.stem for file in tmp_path.iterdir()) == names
    loaded = keras.models.load_model(tmp_path / f"{names[-1]}.keras")
    if save_freq == "epoch":
        assert_same_weights(loaded, step.model, 0.0)
    assert loaded.predict(problem.x, verbose=0).shape == (22, 3)


def test_csv_logger(problem, tmp_path):
    history = loops.train(
        problem.step(), problem.data(), epochs=3, callbacks=[keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    )
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == history.history["loss"]


def test_keras_tensorboard_and_progress_bar(problem, tmp_path, capsys):
    board = keras.callbacks.TensorBoard(tmp_path, update_freq="batch", histogram_freq=1)
    bar = keras.callbacks.ProgbarLogger()
    loops.train(problem.step(), problem.data(), epochs=1, validation=problem.data(), callbacks=[board, bar])
    assert {"train", "validation"} <= {path.name for path in tmp_path.iterdir()}
    assert "5/5" in capsys.readouterr().out


def test_a_callback_that_cannot_begin(problem, tmp_path):
    (tmp_path / "file").write_text("")
    callbacks = [
        loops.TensorBoard(tmp_path / "file" / "logs"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    step = problem.step()
    before = step.model.get_weights()
    with pytest.raises(ValueError, match="`log_dir` .* cannot be written"):
        loops.train(step, problem.data(), epochs=1, callbacks=callbacks)
    for weight, old in zip(step.model.get_weights(), before):
        np.testing.assert_array_equal(weight, old)
    assert not hasattr(step.model, "optimizer")
