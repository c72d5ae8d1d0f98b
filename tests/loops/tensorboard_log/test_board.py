"""TensorBoard's files, read back."""

import os
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.tensorboard_log.event_writer import EventWriter

pytestmark = pytest.mark.numbers

X = np.random.RandomState(0).rand(22, 3).astype("float32")
Y = np.random.RandomState(1).rand(22, 2).astype("float32")
RATES = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9)


def _model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])


def _step(rate=0.1, metrics=("mae",)):
    return loops.TrainStep(_model(), "mse", keras.optimizers.SGD(rate), metrics=metrics)


def _data():
    return loops.Batches(X, Y, 5, shuffle=False)


def _events(file):
    """Those of an event file that hold values."""
    events = map(tf.compat.v1.Event.FromString, tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    return [event for event in events if event.summary.value]


def _scalars(folder):
    """{tag: [(step, value), ...]} of all event files of a folder, in order."""
    found = {}
    for name in sorted(os.listdir(folder)):
        for event in _events(folder / name):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name != "scalars":
                    continue  # what other tests of this folder are about
                number = float(tf.make_ndarray(value.tensor))
                found.setdefault(value.tag, []).append((event.step, number))
    return found


def _losses(steps, rate=0.1):
    """Each step's loss and metric by a plain Keras loop over the same batches."""
    model = _model()
    model.compile(keras.optimizers.SGD(rate), "mse")
    losses, errors = [], []
    for step in range(steps):
        part = slice(5 * (step % 5), 5 * (step % 5) + 5)
        errors.append(np.abs(model.predict_on_batch(X[part]) - Y[part]).mean())
        model.reset_metrics()  # before 3.13, Keras returned the mean since the last reset
        losses.append(float(model.train_on_batch(X[part], Y[part])))
    return losses, errors


def test_every_step_and_epoch(tmp_path):
    history = loops.train(
        _step(), _data(), epochs=3, validation=_data(), callbacks=[loops.TensorBoard(tmp_path)]
    )
    train, validation = _scalars(tmp_path / "train"), _scalars(tmp_path / "validation")
    train |= _scalars(tmp_path / "steps")
    losses, errors = _losses(15)
    assert [step for step, _ in train["step/loss"]] == list(range(1, 16))
    np.testing.assert_allclose([value for _, value in train["step/loss"]], losses, rtol=1e-5)
    np.testing.assert_allclose([value for _, value in train["step/mae"]], errors, rtol=1e-5)
    for tags, prefix in ((train, ""), (validation, "val_")):
        for name in ("loss", "mae"):
            steps, values = zip(*tags[f"epoch/{name}"])
            assert steps == (1, 2, 3)
            np.testing.assert_allclose(values, history.history[prefix + name], rtol=1e-6)
    watched = {
        *("rate/all", "grad_norm/all", "weight_norm/all", "update_ratio/all", "clipped/all", "skipped/all"),
        *("speed/steps_per_s", "speed/examples_per_s", "speed/waiting_for_data"),
    }
    own = {"step/loss", "step/mae", "epoch/loss", "epoch/mae", "epoch/learning_rate"}
    assert set(train) == own | watched
    assert {step for tag in watched for step, _ in train[tag]} == {10}
    assert set(validation) == {"epoch/loss", "epoch/mae"}


@pytest.mark.parametrize("every", [2, 4, 100])
def test_some_steps(tmp_path, every):
    board = loops.TensorBoard(str(tmp_path), every_steps=every)
    loops.train(_step(), _data(), epochs=2, callbacks=[board])
    folder = tmp_path / "steps"
    tags = _scalars(folder) if folder.exists() else {}
    losses, _ = _losses(10)
    expected = [(step, losses[step - 1]) for step in range(every, 11, every)]
    steps = tags.get("step/loss", [])
    assert [step for step, _ in steps] == [step for step, _ in expected]
    np.testing.assert_allclose([v for _, v in steps], [v for _, v in expected], rtol=1e-5)
    assert len(_scalars(tmp_path / "train")["epoch/loss"]) == 2


@pytest.mark.parametrize("rate", [0.05, RATES], ids=["number", "schedule"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_learning_rate(tmp_path, rate, scaled):
    optimizer = keras.optimizers.SGD(rate)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    step = loops.TrainStep(_model(), "mse", optimizer)
    loops.train(step, _data(), epochs=2, callbacks=[loops.TensorBoard(tmp_path)])
    rates = [value for _, value in _scalars(tmp_path / "train")["epoch/learning_rate"]]
    expected = [0.05, 0.05] if rate == 0.05 else [float(RATES(5)), float(RATES(10))]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)
def test_several_optimizers_have_no_rate(tmp_path):
    inner = keras.optimizers.SGD()
    step = loops.TrainStep(_model(), "mse", keras.optimizers.MultiOptimizer(lambda variable: inner))
    loops.train(step, _data(), epochs=1, callbacks=[loops.TensorBoard(tmp_path, watch_every=5)])
    assert list(_scalars(tmp_path / "train")) == ["epoch/loss"]
    assert [number for number, _ in _scalars(tmp_path / "steps")["grad_norm/all"]] == [5]


def test_logs_that_are_no_numbers_are_left_out_and_said_once(tmp_path):
    adds = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(note="a", best=None))
    callbacks = [adds, loops.TensorBoard(tmp_path, watch=None, hparams={"rate": 1})]
    with pytest.warns(
        UserWarning, match="epoch 1 hold what is no number, .*: 'best': None, 'note': 'a'"
    ) as told:
        loops.train(_step(), _data(), epochs=2, callbacks=callbacks)
    assert len(told) == 1
    assert sorted(_scalars(tmp_path / "train")) == ["epoch/learning_rate", "epoch/loss", "epoch/mae"]


def test_a_rate_that_a_callback_turns(tmp_path):
    turn = keras.callbacks.LearningRateScheduler(lambda epoch: [0.2, 0.02][epoch])
    loops.train(_step(), _data(), epochs=2, callbacks=[turn, loops.TensorBoard(tmp_path)])
    rates = [value for _, value in _scalars(tmp_path / "train")["epoch/learning_rate"]]
    np.testing.assert_allclose(rates, [0.2, 0.02], rtol=1e-6)


@pytest.mark.parametrize("same", [False, True])
def test_two_calls_in_a_row(tmp_path, same):
    step, board = _step(), loops.TensorBoard(tmp_path)
    for _ in range(2):
        loops.train(step, _data(), epochs=1, callbacks=[board])
        board = board if same else loops.TensorBoard(tmp_path)
    points = sorted(_scalars(tmp_path / "steps")["step/loss"])
    assert [number for number, _ in points] == list(range(1, 11))
    np.testing.assert_allclose([value for _, value in points], _losses(10)[0], rtol=1e-5)


def test_one_step_a_call(tmp_path):
    each = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    board = loops.TensorBoard(tmp_path)
    loops.train(_step(), _data(), epochs=2, callbacks=[board, each])
    points = _scalars(tmp_path / "steps")["step/loss"]
    assert [number for number, _ in points] == list(range(1, 11))
    np.testing.assert_allclose([value for _, value in points], _losses(10)[0], rtol=1e-5)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, loops.NonFiniteError])
def test_what_came_before_an_error_is_written(tmp_path, error):
    x, steps, board = X.copy(), 5, loops.TensorBoard(tmp_path)
    callbacks = [board]
    if error is loops.NonFiniteError:
        x[17], steps = np.nan, 3  # in the fourth batch
    else:

        def fail(epoch, logs):
            raise error("on purpose")

        callbacks.insert(0, keras.callbacks.LambdaCallback(on_epoch_end=fail))
    data = loops.Batches(x, Y, 5, shuffle=False)
    try:
        loops.train(_step(), data, epochs=2, callbacks=callbacks)
    except (ZeroDivisionError, loops.NonFiniteError):
        pass
    points = _scalars(tmp_path / "steps")["step/loss"]
    assert [number for number, _ in points] == list(range(1, steps + 1))
    np.testing.assert_allclose([value for _, value in points], _losses(steps)[0], rtol=1e-5)


def test_nothing_is_made_before_training(tmp_path):
    loops.TensorBoard(tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("file", ["logs", "logs/train", "logs/hparams", "logs/train/plugins"])
def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path, file):
    (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / file).write_text("text")
    message = f"cannot be written: .*{file} is not a directory. Choose another folder"
    options = {"hparams": {"rate": 1}} if "hparams" in file else {"profile": (1, 1)} if "plug" in file else {}
    _refused(tmp_path / "logs", message, **options)


def test_a_folder_that_another_writes_to_is_refused_before_training(tmp_path):
    with loops.TensorBoard(tmp_path) as board:
        board.write(1, {"loss": 1.0})
        _refused(
            tmp_path, "is being written by another `TensorBoard` of this process since .*, or `close` that"
        )


def _refused(folder, message, **options):
    step = _step()
    before = [weight.numpy() for weight in step.model.weights]
    with pytest.raises(ValueError, match=f"`log_dir` '.*' {message}"):
        loops.train(step, _data(), epochs=1, callbacks=[loops.TensorBoard(folder, **options)])
    for weight, old in zip(step.model.weights, before):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_fit_is_told_where_it_belongs(tmp_path):
    model = _step().model
    model.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match="`TensorBoard` writes what a `loops.TrainStep` does, and has none: pa"
    ):
        model.fit(np.ones((1, 3)), np.ones((1, 2)), callbacks=[loops.TensorBoard(tmp_path)], verbose=0)


def test_the_folder_is_let_go_when_training_cannot_begin(tmp_path):
    def fail(logs):
        raise ZeroDivisionError

    callbacks = [loops.TensorBoard(tmp_path), keras.callbacks.LambdaCallback(on_train_begin=fail)]
    with pytest.raises(ZeroDivisionError):
        loops.train(_step(), _data(), epochs=1, callbacks=callbacks)
    assert os.listdir(tmp_path) == []


def test_file_systems_of_tensorflow():
    """TensorFlow's file system in memory stands for the remote ones."""
    folder = "ram://runs/first"
    loops.train(_step(), _data(), epochs=1, callbacks=[loops.TensorBoard(folder)])
    assert sorted(tf.io.gfile.listdir(folder)) == ["steps", "train"]
    (name,) = tf.io.gfile.listdir(f"{folder}/steps")
    assert len(_events(f"{folder}/steps/{name}")) == 5
    assert not os.path.exists("ram:")


def test_one_file_a_run_in_the_form_of_tf_summary(tmp_path):
    """TensorBoard follows one growing file a run, and finds its plugin by the metadata."""
    loops.train(_step(), _data(), epochs=2, callbacks=[loops.TensorBoard(tmp_path / "ours")])
    with tf.summary.create_file_writer(str(tmp_path / "theirs")).as_default():
        tf.summary.scalar("step/loss", 0.5, step=3)
    values = []
    for folder in (tmp_path / "ours" / "steps", tmp_path / "theirs"):
        (name,) = os.listdir(folder)
        first = next(tf.data.TFRecordDataset(str(folder / name)).as_numpy_iterator())
        assert tf.compat.v1.Event.FromString(first).file_version == "brain.Event:2" and "tfevents" in name
        values.append(_events(folder / name)[0].summary.value[0])
    for value in values:  # the number itself may stand in either of two fields
        value.tensor.ClearField("float_val")
        value.tensor.ClearField("tensor_content")
    assert values[0] == values[1]


def test_files_are_closed_after_a_write_that_failed(tmp_path, monkeypatch):
    """Nothing of what was written before it is lost."""
    real, calls = EventWriter.write, []

    def write(file, steps, columns):
        calls.append(len(steps))
        if len(calls) == 2:
            raise OSError("the disk is full")
        real(file, steps, columns)

    monkeypatch.setattr(EventWriter, "write", write)
    with pytest.raises(OSError, match="the disk is full"):
        loops.train(_step(), _data(), epochs=50, callbacks=[loops.TensorBoard(tmp_path)])
    points = _scalars(tmp_path / "steps")["step/loss"]
    assert [step for step, _ in points][: calls[0]] == list(range(1, calls[0] + 1))


def test_what_training_raised_comes_before_what_closing_raises(tmp_path, monkeypatch):
    def close(file):
        raise OSError("the disk is full")

    def fail(epoch, logs):
        raise ZeroDivisionError

    monkeypatch.setattr(EventWriter, "close", close)
    callbacks = [loops.TensorBoard(tmp_path), keras.callbacks.LambdaCallback(on_epoch_end=fail)]
    with pytest.raises(ZeroDivisionError) as told:
        loops.train(_step(), _data(), epochs=2, callbacks=callbacks)
    assert any("OSError came as well: the disk is full" in note for note in told.value.__notes__)
    assert sorted(os.listdir(tmp_path)) == ["steps", "train"]  # the lock is gone, too


def test_an_epoch_ends_without_waiting_for_its_writes(tmp_path, monkeypatch):
    """Training goes on while the thread is held; all is there at the end."""
    held, real = threading.Event(), EventWriter.write

    def write(file, steps, columns):
        assert held.wait(60)
        real(file, steps, columns)

    def release(epoch, logs):
        if epoch == 1:
            held.set()

    monkeypatch.setattr(EventWriter, "write", write)
    let_go = keras.callbacks.LambdaCallback(on_epoch_end=release)
    history = loops.train(_step(), _data(), epochs=3, callbacks=[loops.TensorBoard(tmp_path), let_go])
    assert [step for step, _ in _scalars(tmp_path / "steps")["step/loss"]] == list(range(1, 16))
    epochs = _scalars(tmp_path / "train")["epoch/loss"]
    assert [number for number, _ in epochs] == [1, 2, 3]
    np.testing.assert_allclose([value for _, value in epochs], history.history["loss"], rtol=1e-6)
