"""The folder and the files of a `TensorBoard`: taken, written, closed."""

import os
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.tensorboard_log.event_writer import EventWriter
from tests.loops.tensorboard_log.small_runs import events_in, scalars_in, small_data, small_step


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
    step = small_step()
    before = [weight.numpy() for weight in step.model.weights]
    with pytest.raises(ValueError, match=f"`log_dir` '.*' {message}"):
        loops.train(step, small_data(), epochs=1, callbacks=[loops.TensorBoard(folder, **options)])
    for weight, old in zip(step.model.weights, before):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_fit_is_told_where_it_belongs(tmp_path):
    model = small_step().model
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
        loops.train(small_step(), small_data(), epochs=1, callbacks=callbacks)
    assert os.listdir(tmp_path) == []


def test_file_systems_of_tensorflow():
    """TensorFlow's file system in memory stands for the remote ones."""
    folder = "ram://runs/first"
    loops.train(small_step(), small_data(), epochs=1, callbacks=[loops.TensorBoard(folder)])
    assert sorted(tf.io.gfile.listdir(folder)) == ["steps", "train"]
    (name,) = tf.io.gfile.listdir(f"{folder}/steps")
    assert len(events_in(f"{folder}/steps/{name}")) == 5
    assert not os.path.exists("ram:")


def test_one_file_a_run_in_the_form_of_tf_summary(tmp_path):
    """TensorBoard follows one growing file a run, and finds its plugin by the metadata."""
    loops.train(small_step(), small_data(), epochs=2, callbacks=[loops.TensorBoard(tmp_path / "ours")])
    with tf.summary.create_file_writer(str(tmp_path / "theirs")).as_default():
        tf.summary.scalar("step/loss", 0.5, step=3)
    values = []
    for folder in (tmp_path / "ours" / "steps", tmp_path / "theirs"):
        (name,) = os.listdir(folder)
        first = next(tf.data.TFRecordDataset(str(folder / name)).as_numpy_iterator())
        assert tf.compat.v1.Event.FromString(first).file_version == "brain.Event:2" and "tfevents" in name
        values.append(events_in(folder / name)[0].summary.value[0])
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
        loops.train(small_step(), small_data(), epochs=50, callbacks=[loops.TensorBoard(tmp_path)])
    points = scalars_in(tmp_path / "steps")["step/loss"]
    assert [step for step, _ in points][: calls[0]] == list(range(1, calls[0] + 1))


def test_what_training_raised_comes_before_what_closing_raises(tmp_path, monkeypatch):
    def close(file):
        raise OSError("the disk is full")

    def fail(epoch, logs):
        raise ZeroDivisionError

    monkeypatch.setattr(EventWriter, "close", close)
    callbacks = [loops.TensorBoard(tmp_path), keras.callbacks.LambdaCallback(on_epoch_end=fail)]
    with pytest.raises(ZeroDivisionError) as told:
        loops.train(small_step(), small_data(), epochs=2, callbacks=callbacks)
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
    history = loops.train(
        small_step(), small_data(), epochs=3, callbacks=[loops.TensorBoard(tmp_path), let_go]
    )
    assert [step for step, _ in scalars_in(tmp_path / "steps")["step/loss"]] == list(range(1, 16))
    epochs = scalars_in(tmp_path / "train")["epoch/loss"]
    assert [number for number, _ in epochs] == [1, 2, 3]
    np.testing.assert_allclose([value for _, value in epochs], history.history["loss"], rtol=1e-6)
