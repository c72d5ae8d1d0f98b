"""`train` with a checkpoint: when it saves, what it goes on with, and what it refuses."""

import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.checkpoint.tensor_file import TensorFile
from tests.values import assert_same, numbers


def test_a_run_that_ended_is_given_back_and_goes_on_with_more_epochs(tiny, kept, capsys):
    straight = tiny.step()
    expected = loops.train(straight, tiny.data(), epochs=4).history
    again, source = tiny.step(), tiny.data()
    capsys.readouterr()
    history = loops.train(again, source, epochs=2, checkpoint=kept)
    assert history.history == {"loss": expected["loss"][:2]} and history.epoch == [0, 1]
    assert source.epoch == 2
    assert capsys.readouterr().out == f"Training is done after 2 epochs, by {kept}/checkpoint-2\n"
    history = loops.train(tiny.step(), tiny.data(), epochs=4, checkpoint=kept)
    assert history.history == expected
    assert capsys.readouterr().out == f"Training goes on at epoch 3, from {kept}/checkpoint-2\n"
    history = loops.train(again, source, epochs=4, callbacks=[loops.Checkpoint(kept, verbose=0)])
    assert history.history == expected
    assert_same(numbers(again.state()), numbers(straight.state()))
    assert capsys.readouterr().out == ""


def test_a_run_that_a_callback_ended_stays_ended(tiny, tmp_path, capsys):
    def train():
        end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: stop(trained.model, epoch))
        return loops.train(trained, tiny.data(), epochs=5, callbacks=[end], checkpoint=tmp_path).epoch

    def stop(network, epoch):
        network.stop_training = epoch == 1

    trained = tiny.step()
    assert train() == [0, 1]
    before, trained = numbers(trained.state()), tiny.step()
    assert train() == [0, 1]
    assert_same(numbers(trained.state()), before)
    assert "Training is done after 2 epochs, by" in capsys.readouterr().out


def test_without_resume_a_new_run_takes_the_places_of_the_old_one(tiny, kept):
    new = tiny.step()
    history = loops.train(new, tiny.data(), epochs=1, checkpoint=kept, resume=False)
    assert history.epoch == [0] and int(new.batches_done.numpy()) == 3
    assert sorted(os.listdir(kept)) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    again = tiny.step()
    assert loops.train(again, tiny.data(), epochs=1, checkpoint=kept).history == history.history
    assert_same(numbers(again.state()), numbers(new.state()))


def places_in(folder):
    """The epoch and batch that each checkpoint is of."""
    notes = [TensorFile(str(folder / name / "state")).metadata["run"] for name in os.listdir(folder)]
    return sorted((note["epoch"], note["batch"]) for note in notes)


def test_what_callbacks_log_may_be_no_number(tiny, tmp_path):
    class Log(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs |= {"text": "a", "none": None, "list": [1.5, "b"]}

    loops.train(tiny.step(), tiny.data(), epochs=1, callbacks=[Log()], checkpoint=tmp_path)
    history = loops.train(tiny.step(), tiny.data(), epochs=1, checkpoint=tmp_path).history
    assert (history["text"], history["none"], history["list"]) == (["a"], [None], [[1.5, "b"]])


def test_a_csv_file_has_each_epoch_once(tiny, tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise OSError("after the row of its epoch is written")

    def run(*more):
        logger = keras.callbacks.CSVLogger(tmp_path / "log.csv", separator=";")
        checkpoint = loops.Checkpoint(tmp_path / "c", every_epochs=2)
        try:
            loops.train(tiny.step(), tiny.data(), epochs=4, callbacks=[logger, *more], checkpoint=checkpoint)
        finally:
            logger.on_train_end()  # which closes the file; it comes at no error

    with pytest.raises(OSError, match="after the row"):
        run(Fails())
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    run()
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [row.partition(";")[0] for row in rows] == ["epoch", "0", "1", "2", "3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "log.csv"]


def test_checkpoints_of_every_other_epoch_and_of_the_last(tiny, tmp_path):
    checkpoint = loops.Checkpoint(tmp_path, every_epochs=2, keep=9)
    loops.train(tiny.step(), tiny.data(), epochs=5, checkpoint=checkpoint)
    assert [epoch for epoch, _ in places_in(tmp_path)] == [2, 4, 5]


def test_checkpoints_by_the_clock(tiny, tmp_path, monkeypatch):
    class Clock(loops.StepsCallback):
        now = 0.0

        def steps_allowed(self, done):
            return 1

        def on_train_steps_end(self, first, values):
            Clock.now += 25.0

    monkeypatch.setattr("gradloop.loops.training.resume.time.monotonic", lambda: Clock.now)
    checkpoint = loops.Checkpoint(tmp_path, every_epochs=9, every_minutes=1.0, keep=9)
    loops.train(tiny.step(), tiny.data(batch_size=2), epochs=1, callbacks=[Clock()], checkpoint=checkpoint)
    assert places_in(tmp_path) == [(0, 3), (0, 6), (1, 0)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": 3}, TypeError, "`checkpoint` must be a folder or a `loops.Checkpoint`, not 3"),
        ({"checkpoint": "a", "resume": 1}, TypeError, "`resume` must be True or False, not 1"),
        (
            {"checkpoint": "a", "callbacks": [loops.Checkpoint("b")]},
            ValueError,
            "There are several checkpoints in `checkpoint` and `callbacks`",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused(tiny, options, error, message):
    with pytest.raises(error, match=message):
        loops.train(tiny.step(), tiny.data(), epochs=1, **options)


def test_other_lengths_of_an_epoch_are_refused(tiny, kept):
    source = tiny.data()
    source.epoch = 7
    with pytest.raises(ValueError, match="An epoch is 2 batches, and was 3 in the run of the checkpoint"):
        loops.train(tiny.step(), source, epochs=3, steps_per_epoch=2, checkpoint=kept)
    with pytest.raises(ValueError, match="`data` has seed=2, and the checkpoint"):
        loops.train(tiny.step(), tiny.data(seed=2), epochs=3, checkpoint=kept)
    assert source.epoch == 7


def test_a_state_without_a_run_is_refused(tiny, tmp_path):
    loops.Checkpoint(tmp_path).save(tiny.step(), iter(tiny.data()))
    with pytest.raises(ValueError, match="was written by `Checkpoint.save`, which knows of no run"):
        loops.train(tiny.step(), tiny.data(), epochs=1, checkpoint=tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def test_a_damaged_checkpoint_is_refused_if_that_is_wanted(tiny, kept):
    cut(kept / "checkpoint-2" / "state.data-00000-of-00001")
    other, source = tiny.step(), tiny.data()
    before = numbers(other.state())
    checkpoint = loops.Checkpoint(kept, on_damaged="raise")
    with pytest.raises(ValueError, match="checkpoint-2' is damaged: state.data-00000-of-00001 has .* bytes"):
        loops.train(other, source, epochs=3, checkpoint=checkpoint)
    assert_same(numbers(other.state()), before)
    assert source.epoch == 0
    shutil.rmtree(kept / "checkpoint-2")  # as the message says; the next one has its number
    checkpoint.save(other)
    assert checkpoint.newest == str(kept / "checkpoint-2")
    cut(kept / "checkpoint-2" / "state.data-00000-of-00001")
    other.train_only("head")
    with pytest.raises(ValueError, match="is damaged: .* Delete its folder to go on from the one before it"):
        checkpoint.restore(other)
    assert len(other.variables) == 2
    shutil.rmtree(kept / "checkpoint-2")
    other.train_only("*")
    assert loops.train(other, source, epochs=3, checkpoint=kept).epoch == [0, 1, 2]


def test_a_run_goes_on_from_the_newest_that_is_whole(tiny, kept, capsys):
    straight = tiny.step()
    expected = loops.train(straight, tiny.data(), epochs=3).history
    cut(kept / "checkpoint-2" / "state.index")
    again, checkpoint = tiny.step(), loops.Checkpoint(kept, keep=2)
    told = (
        r"damaged checkpoints \(checkpoint-2: state.index has .* bytes instead .* whole is '.*checkpoint-1'"
    )
    with pytest.warns(UserWarning, match=told):
        history = loops.train(again, tiny.data(), epochs=3, checkpoint=checkpoint)
    assert history.history == expected
    assert "Training goes on at epoch 2, from" in capsys.readouterr().out
    assert_same(numbers(again.state()), numbers(straight.state()))
    assert sorted(os.listdir(kept)) == ["checkpoint-3", "checkpoint-4"]


class Ends(loops.StepsCallback):
    """Interrupts after the first step that it hears of, and says when it ends."""

    def __init__(self, heard):
        super().__init__()
        self.heard = heard

    def steps_allowed(self, done):
        return 1

    def on_train_steps_end(self, first, values):
        raise KeyboardInterrupt

    def on_train_end(self, logs=None):
        self.heard.append("end")


def test_a_checkpoint_that_cannot_be_written_ends_training_and_harms_none(tiny, kept, monkeypatch):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("gradloop.loops.checkpoint.in_flight.write_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        loops.train(tiny.step(), tiny.data(), epochs=3, checkpoint=kept)
    assert sorted(os.listdir(kept)) == ["checkpoint-1", "checkpoint-2"], "nothing half-written stays"
    # After `Ctrl-C` too, and callbacks have ended by then.
    heard = []
    with pytest.raises(OSError, match="No space left"):
        loops.train(tiny.step(), tiny.data(), epochs=3, callbacks=[Ends(heard)], checkpoint=kept)
    assert heard == ["end"]
    monkeypatch.undo()
    assert loops.Checkpoint(kept).newest == str(kept / "checkpoint-2")
    history = loops.train(tiny.step(), tiny.data(), epochs=3, checkpoint=kept)
    assert history.history == loops.train(tiny.step(), tiny.data(), epochs=3).history


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_cannot_be_written_is_refused_before_training(tiny, resume, tmp_path):
    (tmp_path / "file").write_text("in the way")
    trained, place = tiny.step(), tmp_path / "file" / "kept"
    with pytest.raises(ValueError, match="`folder` .* cannot be written"):
        loops.train(trained, tiny.data(), epochs=1, checkpoint=place, resume=resume)
    assert int(trained.batches_done.numpy()) == 0


def test_a_callback_that_cannot_begin_leaves_the_data_where_it_was(tiny, kept):
    source = tiny.data()
    source.epoch = 7
    late = loops.Unfreeze({9: "head"})
    with pytest.raises(ValueError, match="the run ends before"):
        loops.train(tiny.step(), source, epochs=3, callbacks=[late], checkpoint=kept)
    assert source.epoch == 7


def test_other_metrics_are_refused(tiny, kept):
    with pytest.raises(ValueError, match="`metrics` are mae, and were none in the run of the checkpoint"):
        loops.train(tiny.step(metrics=["mae"]), tiny.data(), epochs=3, checkpoint=kept)


def test_a_dataset_that_is_shorter_now_is_refused(tiny, tmp_path):
    def generated(count):
        def generate():
            for first in range(count):
                yield tiny.x[first : first + 2], np.zeros((2, 2), "float32")

        specs = (tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None, 2], tf.float32))
        return tf.data.Dataset.from_generator(generate, output_signature=specs)

    loops.train(tiny.step(), generated(6), epochs=1, callbacks=[Ends([])], checkpoint=tmp_path)
    loops.train(tiny.step(), generated(6), epochs=1, callbacks=[Ends([])], checkpoint=tmp_path)
    with pytest.raises(ValueError, match="`data` ends before the 2 batches that the run of the checkpoint"):
        loops.train(tiny.step(), generated(1), epochs=1, checkpoint=tmp_path)
