"""train: whole runs against `model.fit`, with Keras' callbacks."""

import csv
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

RANDOM = np.random.RandomState(0)
X = RANDOM.rand(22, 4).astype("float32")
Y = RANDOM.randint(0, 3, 22)
WEIGHT = RANDOM.rand(22).astype("float32")
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


def _generated():
    def generate():
        for first in range(0, 22, 5):
            yield X[first : first + 5], Y[first : first + 5]

    specs = (tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.int64))
    return tf.data.Dataset.from_generator(generate, output_signature=specs)


def _weights(model):
    return [weight.numpy() for weight in model.weights]


def _assert_same_weights(one, other, atol=1e-6):
    for a, b in zip(_weights(one), _weights(other)):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def _assert_same_logs(ours, theirs, rel=2e-6):
    assert set(ours.history) == set(theirs.history)
    for name, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=rel, atol=2e-6, err_msg=name)


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


@pytest.mark.parametrize("kind", ["batches", "weighted", "dataset", "generator"])
def test_history_is_that_of_fit(kind):
    reference, step = _model(), _step()
    reference.compile(keras.optimizers.SGD(0.1), LOSS, weighted_metrics=["accuracy"])
    fit = {"validation_data": (X[:7], Y[:7]), "validation_batch_size": 5, "epochs": 3, "verbose": 0}
    if kind == "weighted":
        expected = reference.fit(X, Y, 5, shuffle=False, sample_weight=WEIGHT, **fit)
    else:
        expected = reference.fit(X, Y, 5, shuffle=False, **fit)
    data = {
        "batches": _data,
        "weighted": lambda: _data(sample_weight=WEIGHT),
        "dataset": _dataset,
        "generator": _generated,
    }[kind]()
    history = loops.train(step, data, epochs=3, validation=_data(X[:7], Y[:7]))
    _assert_same_logs(history, expected)
    _assert_same_weights(step.model, reference, 2e-6)
    assert step.traces == 1 and history.epoch == [0, 1, 2]


@pytest.mark.parametrize("data", [_data, _dataset, _generated], ids=["batches", "dataset", "unknown"])
def test_one_step_a_call_or_many_is_the_same(data):
    many, each = _step(), _step()
    slow, fast = Reader(), Reader()
    one = loops.train(many, data(), epochs=3, callbacks=[fast])
    other = loops.train(each, data(), epochs=3, callbacks=[slow, Every()])
    # Data of unknown length goes batch by batch through another graph, whose sums may round otherwise.
    exact = data is not _generated
    _assert_same_weights(many.model, each.model, 0.0 if exact else 1e-6)
    _assert_same_logs(one, other, 1e-7 if exact else 1e-5)
    assert fast.numbers == slow.numbers == list(range(1, 16))
    np.testing.assert_allclose(fast.losses, slow.losses, rtol=0.0 if exact else 1e-5)


def test_endless_and_rolling_data():
    endless, rolling = _step(), _step()
    one = loops.train(endless, _dataset().repeat(), epochs=2, steps_per_epoch=7)
    other = loops.train(rolling, _dataset(), epochs=np.int64(2), steps_per_epoch=7)
    _assert_same_logs(one, other, 1e-7)
    _assert_same_weights(endless.model, rolling.model, 0.0)
    assert int(endless.optimizer.iterations.numpy()) == 14


@pytest.mark.parametrize(
    "hooks, data",
    [(Hooks, _dataset), (BatchHooks, _dataset), (Hooks, _generated), (BatchHooks, _generated)],
)
def test_hooks_are_called_as_fit_calls_them(hooks, data):
    ours, theirs = hooks(), hooks()
    reference, validation = _model(), (X[:7], Y[:7])
    reference.compile("adam", LOSS, metrics=["accuracy"])
    fit = {"validation_data": validation, "validation_batch_size": 5, "verbose": 0}
    reference.fit(_dataset(), shuffle=False, epochs=2, callbacks=[theirs], **fit)
    loops.train(_step(), data(), epochs=2, validation=_data(*validation), callbacks=[ours])
    assert ours.calls == theirs.calls


def test_callbacks_see_the_run():
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.update(self.params, optimizer=self.model.optimizer, stop=self.model.stop_training)

    step = _step()
    history = loops.train(step, _data(), epochs=2, callbacks=(Look(),))
    assert seen["epochs"] == 2 and seen["steps"] == 5 and seen["stop"] is False
    assert seen["optimizer"] is step.optimizer
    assert not hasattr(step.model, "optimizer")
    assert step.model.history is history
    other = keras.callbacks.History()
    assert loops.train(step, _generated(), epochs=1, callbacks=[Look(), other]) is other
    assert seen["steps"] is None


def test_a_compiled_model_keeps_its_optimizer():
    step = _step()
    step.model.compile("sgd", "mse")
    own = step.model.optimizer
    loops.train(step, _data(), epochs=1)
    assert step.model.optimizer is own


def test_early_stopping_restores_the_best_weights():
    step = _step(rate=0.5)
    kept = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept[epoch] = (logs["val_loss"], _weights(self.model))

    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    validation = _data(X[:9], (Y[:9] + 1) % 3)
    history = loops.train(
        step, _data(), epochs=30, validation=validation, callbacks=[Keep(), stopping]
    )
    best = int(np.argmin(history.history["val_loss"]))
    assert len(history.epoch) == best + 3 < 30
    for weight, expected in zip(_weights(step.model), kept[best][1]):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        lambda: keras.callbacks.ReduceLROnPlateau("loss", 0.3, patience=1, min_delta=10.0),
    ],
    ids=["scheduler", "plateau"],
)
def test_learning_rate_callbacks(make):
    reference, step = _model(), _step()
    reference.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"])
    expected = reference.fit(X, Y, 5, 4, shuffle=False, verbose=0, callbacks=[make()])
    history = loops.train(step, _data(), epochs=4, callbacks=[make()])
    _assert_same_logs(history, expected)
    assert len(set(history.history["learning_rate"])) > 1
    _assert_same_weights(step.model, reference, 2e-6)
    assert step.traces == 1


@pytest.mark.parametrize("save_freq", ["epoch", 3])
def test_model_checkpoint(tmp_path, save_freq):
    step = _step()
    path = tmp_path / ("{epoch}.keras" if save_freq == "epoch" else "{epoch}-{batch}.keras")
    saver = keras.callbacks.ModelCheckpoint(str(path), save_freq=save_freq)
    loops.train(step, _data(), epochs=2, callbacks=[saver])
    names = {"epoch": ["1", "2"], 3: ["1-3", "2-1", "2-4"]}[save_freq]
    assert sorted(file.stem for file in tmp_path.iterdir()) == names
    loaded = keras.models.load_model(tmp_path / f"{names[-1]}.keras")
    if save_freq == "epoch":
        _assert_same_weights(loaded, step.model, 0.0)
    assert loaded.predict(X, verbose=0).shape == (22, 3)


def test_csv_logger(tmp_path):
    history = loops.train(
        _step(), _data(), epochs=3, callbacks=[keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    )
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == history.history["loss"]


def test_ema_weights_in_validation():
    def optimizer():
        return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)

    reference, model = _model(), _model()
    reference.compile(optimizer(), LOSS)
    step = loops.TrainStep(model, LOSS, optimizer())
    swap = keras.callbacks.SwapEMAWeights
    expected = reference.fit(
        X, Y, 5, 2, shuffle=False, verbose=0, callbacks=[swap()], validation_data=(X, Y)
    )
    history = loops.train(step, _data(), epochs=2, validation=_data(), callbacks=[swap()])
    _assert_same_logs(history, expected)


def test_keras_tensorboard_and_progress_bar(tmp_path, capsys):
    board = keras.callbacks.TensorBoard(tmp_path, update_freq="batch", histogram_freq=1)
    bar = keras.callbacks.ProgbarLogger()
    loops.train(_step(), _data(), epochs=1, validation=_data(), callbacks=[board, bar])
    assert {"train", "validation"} <= {path.name for path in tmp_path.iterdir()}
    assert "5/5" in capsys.readouterr().out


@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_backup_and_restore_runs(tmp_path, save_freq):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=save_freq)
    step, plain = _step(), _step()
    loops.train(step, _data(), epochs=2, callbacks=[backup])
    loops.train(plain, _data(), epochs=2)
    _assert_same_weights(step.model, plain.model, 0.0)


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


class TopK(keras.metrics.Metric):
    """A metric that does not tell its configuration, as users write them."""

    def __init__(self, k=1, name="top"):
        super().__init__(name=name)
        self.k = k
        self.hits = self.add_weight(name="hits", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y, predictions, sample_weight=None):
        self.hits.assign_add(
            tf.reduce_sum(tf.cast(tf.math.in_top_k(y, predictions, self.k), tf.float32))
        )
        self.count.assign_add(tf.cast(tf.size(y), tf.float32))

    def result(self):
        return self.hits / self.count


def test_validation_leaves_training_alone():
    metrics = lambda: [TopK(k=2), keras.metrics.MeanMetricWrapper(lambda y, p: p[:, 0], "p")]  # noqa: E731
    plain, step = _step(metrics=metrics()), _step(metrics=metrics())
    shuffled = [loops.Batches(X, Y, 5, seed=4) for _ in range(2)]
    expected = loops.train(plain, shuffled[0], epochs=3)
    history = loops.train(step, shuffled[1], epochs=3, validation=shuffled[1])
    for name, values in expected.history.items():
        assert history.history[name] == values
    _assert_same_weights(step.model, plain.model, 0.0)
    assert shuffled[1].epoch == 3
    for metric in step.metrics:
        assert float(metric.result()) == pytest.approx(history.history[metric.name][-1])
    top = tf.math.in_top_k(Y, step.model(X, training=False), 2)
    assert history.history["val_top"][-1] == pytest.approx(np.mean(top))


def test_a_callback_that_cannot_begin(tmp_path):
    (tmp_path / "file").write_text("")
    callbacks = [
        loops.TensorBoard(tmp_path / "file" / "logs"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    step = _step()
    before = _weights(step.model)
    with pytest.raises(ValueError, match="`log_dir` .* cannot be written"):
        loops.train(step, _data(), epochs=1, callbacks=callbacks)
    for weight, old in zip(_weights(step.model), before):
        np.testing.assert_array_equal(weight, old)
    assert not hasattr(step.model, "optimizer")


@pytest.mark.parametrize(
    "arguments, error, match",
    [
        ({"step": "x"}, TypeError, "`step` must be a `loops.TrainStep`, not 'x'"),
        ({"epochs": 0}, ValueError, "`epochs` must be a whole number of at least 1, not 0"),
        ({"epochs": True}, ValueError, "`epochs` must be .* not True"),
        ({"epochs": 1.5}, ValueError, "`epochs` must be .* not 1.5"),
        ({"steps_per_epoch": 0}, ValueError, "`steps_per_epoch` must be .* not 0"),
        ({"data": (X, Y)}, TypeError, "`data` must be a `loops.Batches`"),
        ({"validation": (X, Y)}, TypeError, "`validation` must be a `loops.Batches`"),
        ({"data": _dataset().repeat()}, ValueError, "`data` has no end: .* `steps_per_epoch=...`"),
        ({"validation": _dataset().repeat()}, ValueError, "`validation` has no end: .* `dataset.take"),
        ({"data": _dataset().take(0)}, ValueError, "`data` is empty"),
        ({"callbacks": keras.callbacks.History()}, TypeError, "`callbacks` must be a list or tuple"),
        ({"callbacks": None}, TypeError, "`callbacks` must be a list or tuple, not None"),
        ({"callbacks": [print]}, TypeError, "`callbacks` holds <.*print>, which is no"),
        ({"callbacks": [keras.callbacks.History]}, TypeError, "`callbacks` holds <class"),
    ],
)
def test_bad_arguments(arguments, error, match):
    given = {"step": loops.TrainStep(_model(), LOSS, "sgd"), "data": _data(), "epochs": 1, **arguments}
    with pytest.raises(error, match=match):
        loops.train(given.pop("step"), given.pop("data"), **given)


def test_a_loss_function_that_cannot_evaluate():
    step = loops.TrainStep(_model(), lambda model, batch: tf.reduce_mean(model(batch[0])), "sgd")
    with pytest.raises(ValueError, match="without a parameter `training`"):
        loops.train(step, _data(), epochs=1, validation=_data())
    assert not step.optimizer.built


def test_averaged_weights_are_left_in_the_model_as_fit_does():
    def optimizer():
        return keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8)

    ours, theirs = _model(), _model()
    loops.train(loops.TrainStep(ours, LOSS, optimizer()), _data(), epochs=2)
    theirs.compile(optimizer(), LOSS)
    theirs.fit(_dataset(), shuffle=False, epochs=2, verbose=0)
    _assert_same_weights(ours, theirs)


def test_skipped_steps_are_in_no_mean():
    x = X.copy()
    x[6] = np.nan
    step = _step(on_nonfinite="skip")
    history = loops.train(step, _data(x), epochs=1).history
    assert int(step.optimizer.iterations.numpy()) == 4
    rest = np.r_[0:5, 10:22]
    reference = loops.train(_step(), _data(X[rest], Y[rest]), epochs=1).history
    np.testing.assert_allclose(history["loss"], reference["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["accuracy"], reference["accuracy"], rtol=1e-5)


def test_backup_and_restore_goes_on_where_it_stopped(tmp_path):
    """An error leaves the backup; the next run makes the epochs that are left, in their own order."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise OSError("power cut")

    def run(*callbacks):
        step = _step()
        data = loops.Batches(X, Y, 5, seed=3)
        loops.train(step, data, epochs=4, callbacks=callbacks)
        return step

    straight = run()
    with pytest.raises(OSError, match="power cut"):
        run(keras.callbacks.BackupAndRestore(tmp_path), Stop())
    assert os.listdir(tmp_path), "an error must leave the backup in place"
    resumed = run(keras.callbacks.BackupAndRestore(tmp_path))
    _assert_same_weights(resumed.model, straight.model)
    assert resumed.model._initial_epoch is None


def test_metrics_with_state_do_not_see_a_skipped_step():
    x = X.copy()
    x[6] = np.nan
    metric = keras.metrics.SparseCategoricalCrossentropy(name="entropy")
    step = _step(on_nonfinite="skip", metrics=[metric])
    history = loops.train(step, _data(x), epochs=1).history
    np.testing.assert_allclose(history["entropy"], history["loss"], rtol=1e-5)


def test_an_epoch_of_skipped_steps_has_logs():
    step = _step(on_nonfinite="skip")
    history = loops.train(step, _data(np.full_like(X, np.nan)), epochs=2)
    assert all(np.isnan(history.history[name]).tolist() == [True, True] for name in ("loss", "accuracy"))
