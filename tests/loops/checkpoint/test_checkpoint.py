"""`Checkpoint`: its folder, loops of one's own, and what `train` refuses to go on with."""

import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops, optim
from gradloop.loops.checkpoint.store import same_on_all
from gradloop.loops.checkpoint.tensor_file import TensorFile


def model(units=2):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="body"), keras.layers.Dense(units, name="head")]
    )


def step(units=2, optimizer="adam", **options):
    return loops.TrainStep(model(units), "mse", optimizer, **options)


def grouped_step():
    network = model()
    plan = optim.partition(network, {"body": optim.Group("body", lr_scale=0.5), "head": "head"})
    return loops.TrainStep(network, "mse", optim.GroupedOptimizer(keras.optimizers.Adam(), plan))


X = np.random.RandomState(0).rand(12, 3).astype("float32")


def data(units=2, **options):
    return loops.Batches(X, np.zeros((12, units), "float32"), options.pop("batch_size", 4), **options)


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, np.zeros((12, 2), "float32"))).shuffle(12, seed=1).batch(2)


def values(of):
    return {name: variable.numpy() for name, variable in of.state().items()}


def assert_same(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.fixture
def kept(tmp_path):
    """A folder with a run of two epochs."""
    loops.train(step(), data(), epochs=2, checkpoint=tmp_path / "kept")
    return tmp_path / "kept"


# -- the constructor -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every_epochs": 0}, ValueError, "`every_epochs` must be at least 1, got 0"),
        ({"every_steps": 1.5}, TypeError, "`every_steps` must be a whole number of at least 1, got 1.5"),
        ({"keep": True}, TypeError, "`keep` must be a whole number of at least 1, got True"),
        ({"every_minutes": 0}, ValueError, "`every_minutes` must be a finite number above 0, got 0"),
        ({"every_minutes": "2"}, TypeError, "`every_minutes` must be a number above 0, got '2'"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        loops.Checkpoint("folder", **options)


@pytest.mark.parametrize("folder", [None, "", 3])
def test_a_folder_that_is_no_path_is_refused(folder):
    with pytest.raises(TypeError, match="`folder` must be the path of a folder"):
        loops.Checkpoint(folder)


def test_the_constructor_makes_nothing(tmp_path):
    assert loops.Checkpoint(tmp_path / "a").newest is None
    assert not os.listdir(tmp_path)


# -- a loop of one's own -------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [data, dataset])
def test_a_loop_of_ones_own_goes_on_in_the_middle_of_an_epoch(source, tmp_path):
    straight = step()
    iterator = iter(source())
    losses = [straight.run(iterator, 1)["loss"][0] for _ in range(3)]
    first, checkpoint = step(), loops.Checkpoint(tmp_path)
    iterator = checkpoint.restore(first, source())
    assert first.run(iterator, 1)["loss"][0] == losses[0]
    checkpoint.save(first, iterator)
    again = step()
    iterator = loops.Checkpoint(tmp_path).restore(again, source())
    assert [again.run(iterator, 1)["loss"][0] for _ in range(2)] == losses[1:]
    assert_same(values(again), values(straight))


def test_epochs_follow_one_another_after_a_restore(tmp_path):
    def losses(cut):
        found, trained, checkpoint = [], step(), loops.Checkpoint(tmp_path)
        source = data()
        iterator = checkpoint.restore(trained, source)
        while len(found) < cut:
            found += trained.run(iterator, 1)["loss"].tolist()
            checkpoint.save(trained, iterator)
            if not iterator.remaining:
                iterator = iter(source)
        return found

    plain, source = step(), data()
    straight = [loss for _ in range(3) for loss in plain.run(iter(source), 3)["loss"].tolist()]
    assert losses(4) + losses(5) == straight


def test_names_are_those_of_the_state(tmp_path):
    trained = step(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    place = loops.Checkpoint(tmp_path).save(trained)
    names = {name for name, _ in tf.train.list_variables(f"{place}/state")}
    assert names - {"gradloop/note"} == set(trained.state())
    assert "optimizer/head/kernel/momentum" in names


def test_the_newest_are_kept(tmp_path):
    trained, checkpoint = step(), loops.Checkpoint(tmp_path, keep=2)
    places = [checkpoint.save(trained) for _ in range(4)]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-3", "checkpoint-4"]
    assert checkpoint.newest == places[-1] == str(tmp_path / "checkpoint-4")


def test_one_that_was_not_finished_is_passed_over(tmp_path):
    trained, checkpoint = step(), loops.Checkpoint(tmp_path)
    whole = checkpoint.save(trained)
    before = values(trained)
    shutil.copytree(whole, tmp_path / "checkpoint-2")
    os.remove(tmp_path / "checkpoint-2" / "state.index")
    (tmp_path / "checkpoint-x").mkdir()
    loops.train(trained, data(), epochs=1)
    assert checkpoint.newest == whole
    assert checkpoint.restore(trained) is None
    assert_same(values(trained), before)
    assert checkpoint.save(trained).endswith("checkpoint-3")
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-1", "checkpoint-3", "checkpoint-x"]


def test_a_place_that_cannot_be_kept_is_refused(tmp_path):
    generated = tf.data.Dataset.from_generator(lambda: iter(range(3)), output_signature=tf.TensorSpec([]))
    checkpoint = loops.Checkpoint(tmp_path)
    place = "`iterator` is of a dataset in which TensorFlow knows no place: PyFunc is stateful. Save without"
    with pytest.raises(ValueError, match=place):
        checkpoint.save(step(), iter(generated))
    assert checkpoint.newest is None and not os.listdir(tmp_path)


def test_what_is_no_step_iterator_or_data_is_refused(tmp_path):
    checkpoint = loops.Checkpoint(tmp_path)
    for call in (checkpoint.save, checkpoint.restore):
        with pytest.raises(TypeError, match="`step` must be a `loops.TrainStep`"):
            call(model())
    with pytest.raises(ValueError, match="pass `iter"):
        checkpoint.save(step(), data())
    with pytest.raises(TypeError, match="`data` must be a `loops.Batches` or a `tf.data.Dataset`"):
        checkpoint.restore(step(), iter(data()))


def test_data_of_another_kind_or_order_is_refused(tmp_path):
    trained, checkpoint = step(), loops.Checkpoint(tmp_path)
    checkpoint.save(trained, iter(data()))
    before = values(trained)
    for other, message in (
        (dataset(), "`data` is a `tf.data.Dataset`, and the checkpoint .* made with a `loops.Batches`"),
        (data(batch_size=3), "`data` has batch_size=3, and the checkpoint .* was made with batch_size=4"),
        (data(seed=5), "`data` has seed=5"),
        (data(shuffle=False), "`data` has shuffle=False"),
        (loops.Batches(X[:11], np.zeros((11, 2)), 4), "`data` has examples=11"),
    ):
        with pytest.raises(ValueError, match=message):
            checkpoint.restore(trained, other)
    assert_same(values(trained), before)
    checkpoint.save(trained, iter(dataset()))
    with pytest.raises(ValueError, match="`data` cannot resume where .* Make the dataset as it was"):
        checkpoint.restore(trained, tf.data.Dataset.from_tensor_slices((X, X)).batch(2))
    checkpoint.save(trained)
    with pytest.raises(ValueError, match="`data` has no position in the checkpoint .* restore it without"):
        checkpoint.restore(trained, data())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: step(3), r"head/kernel is float32 \(4, 2\) there and float32 \(4, 3\) here"),
        (lambda: step(optimizer="sgd"), "it has optimizer/body/bias/momentum, .*, which are not there now"),
        (lambda: step(metrics=[keras.metrics.AUC()]), "it has no metrics/auc/true_positives"),
        (lambda: step(accumulate=2), "`accumulate` is 2, and the checkpoint .* was made with 1"),
        (
            grouped_step,
            "`optimizer` has the groups body, head, and the checkpoint .* was made with none",
        ),
    ],
)
def test_another_step_is_refused_and_stays_as_it_was(kept, make, message):
    other = make()
    before = values(other)
    with pytest.raises(ValueError, match=message):
        loops.Checkpoint(kept).restore(other)
    assert_same(values(other), before)


# -- `train` -------------------------------------------------------------------------------------------------


def test_a_run_that_ended_is_given_back_and_goes_on_with_more_epochs(kept, capsys):
    straight = step()
    expected = loops.train(straight, data(), epochs=4).history
    again, source = step(), data()
    capsys.readouterr()
    history = loops.train(again, source, epochs=2, checkpoint=kept)
    assert history.history == {"loss": expected["loss"][:2]} and history.epoch == [0, 1]
    assert source.epoch == 2
    assert capsys.readouterr().out == f"Training is done after 2 epochs, by {kept}/checkpoint-2\n"
    history = loops.train(step(), data(), epochs=4, checkpoint=kept)
    assert history.history == expected
    assert capsys.readouterr().out == f"Training goes on at epoch 3, from {kept}/checkpoint-2\n"
    history = loops.train(again, source, epochs=4, callbacks=[loops.Checkpoint(kept, verbose=0)])
    assert history.history == expected
    assert_same(values(again), values(straight))
    assert capsys.readouterr().out == ""


def test_a_run_that_a_callback_ended_stays_ended(tmp_path, capsys):
    def train():
        end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: stop(trained.model, epoch))
        return loops.train(trained, data(), epochs=5, callbacks=[end], checkpoint=tmp_path).epoch

    def stop(network, epoch):
        network.stop_training = epoch == 1

    trained = step()
    assert train() == [0, 1]
    before, trained = values(trained), step()
    assert train() == [0, 1]
    assert_same(values(trained), before)
    assert "Training is done after 2 epochs, by" in capsys.readouterr().out


def test_without_resume_a_new_run_takes_the_places_of_the_old_one(kept):
    new = step()
    history = loops.train(new, data(), epochs=1, checkpoint=kept, resume=False)
    assert history.epoch == [0] and int(new.batches_done.numpy()) == 3
    assert sorted(os.listdir(kept)) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    again = step()
    assert loops.train(again, data(), epochs=1, checkpoint=kept).history == history.history
    assert_same(values(again), values(new))


def places_in(folder):
    """The epoch and batch that each checkpoint is of."""
    notes = [TensorFile(str(folder / name / "state")).note["run"] for name in os.listdir(folder)]
    return sorted((note["epoch"], note["batch"]) for note in notes)


def test_checkpoints_of_every_other_epoch_and_of_the_last(tmp_path):
    checkpoint = loops.Checkpoint(tmp_path, every_epochs=2, keep=9)
    loops.train(step(), data(), epochs=5, checkpoint=checkpoint)
    assert [epoch for epoch, _ in places_in(tmp_path)] == [2, 4, 5]


def test_checkpoints_by_the_clock(tmp_path, monkeypatch):
    class Clock(loops.StepsCallback):
        now = 0.0

        def steps_allowed(self, done):
            return 1

        def on_train_steps_end(self, first, values):
            Clock.now += 25.0

    monkeypatch.setattr("gradloop.loops.training.resume.time.monotonic", lambda: Clock.now)
    checkpoint = loops.Checkpoint(tmp_path, every_epochs=9, every_minutes=1.0, keep=9)
    loops.train(step(), data(batch_size=2), epochs=1, callbacks=[Clock()], checkpoint=checkpoint)
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
def test_what_is_no_checkpoint_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        loops.train(step(), data(), epochs=1, **options)


def test_other_lengths_of_an_epoch_are_refused(kept):
    source = data()
    source.epoch = 7
    with pytest.raises(ValueError, match="An epoch is 2 batches, and was 3 in the run of the checkpoint"):
        loops.train(step(), source, epochs=3, steps_per_epoch=2, checkpoint=kept)
    with pytest.raises(ValueError, match="`data` has seed=2, and the checkpoint"):
        loops.train(step(), data(seed=2), epochs=3, checkpoint=kept)
    assert source.epoch == 7


def test_a_state_without_a_run_is_refused(tmp_path):
    loops.Checkpoint(tmp_path).save(step(), iter(data()))
    with pytest.raises(ValueError, match="was written by `Checkpoint.save`, which knows of no run"):
        loops.train(step(), data(), epochs=1, checkpoint=tmp_path)


def test_a_damaged_checkpoint_says_how_to_go_on_without_it(kept):
    file = kept / "checkpoint-2" / "state.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:-9])
    other, source = step(), data()
    before = values(other)
    with pytest.raises(ValueError, match="checkpoint-2/state' cannot be read: .* delete its folder to go on"):
        loops.train(other, source, epochs=3, checkpoint=kept)
    assert_same(values(other), before)
    assert source.epoch == 0
    other.train_only("head")
    with pytest.raises(ValueError, match="cannot be read"):
        loops.Checkpoint(kept).restore(other)
    assert len(other.variables) == 2
    shutil.rmtree(kept / "checkpoint-2")
    assert loops.train(other, source, epochs=3, checkpoint=kept).epoch == [0, 1, 2]


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


def test_a_checkpoint_that_cannot_be_written_ends_training_and_harms_none(kept, monkeypatch):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("gradloop.loops.checkpoint.store.write_state", full)
    with pytest.raises(OSError, match="No space left"):
        loops.train(step(), data(), epochs=3, checkpoint=kept)
    assert sorted(os.listdir(kept)) == ["checkpoint-1", "checkpoint-2"], "nothing half-written stays"
    # After `Ctrl-C` too, and callbacks have ended by then.
    heard = []
    with pytest.raises(OSError, match="No space left"):
        loops.train(step(), data(), epochs=3, callbacks=[Ends(heard)], checkpoint=kept)
    assert heard == ["end"]
    monkeypatch.undo()
    assert loops.Checkpoint(kept).newest == str(kept / "checkpoint-2")
    history = loops.train(step(), data(), epochs=3, checkpoint=kept)
    assert history.history == loops.train(step(), data(), epochs=3).history


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_cannot_be_written_is_refused_before_training(resume, tmp_path):
    (tmp_path / "file").write_text("in the way")
    trained, place = step(), tmp_path / "file" / "kept"
    with pytest.raises(ValueError, match="`folder` .* cannot be written"):
        loops.train(trained, data(), epochs=1, checkpoint=place, resume=resume)
    assert int(trained.batches_done.numpy()) == 0


def test_a_callback_that_cannot_begin_leaves_the_data_where_it_was(kept):
    source = data()
    source.epoch = 7
    late = loops.Unfreeze({9: "head"})
    with pytest.raises(ValueError, match="the run ends before"):
        loops.train(step(), source, epochs=3, callbacks=[late], checkpoint=kept)
    assert source.epoch == 7


def test_other_metrics_are_refused(kept):
    with pytest.raises(ValueError, match="`metrics` are mae, and were none in the run of the checkpoint"):
        loops.train(step(metrics=["mae"]), data(), epochs=3, checkpoint=kept)


def test_a_dataset_that_is_shorter_now_is_refused(tmp_path):
    def generated(count):
        def generate():
            for first in range(count):
                yield X[first : first + 2], np.zeros((2, 2), "float32")

        specs = (tf.TensorSpec([None, 3], tf.float32), tf.TensorSpec([None, 2], tf.float32))
        return tf.data.Dataset.from_generator(generate, output_signature=specs)

    loops.train(step(), generated(6), epochs=1, callbacks=[Ends([])], checkpoint=tmp_path)
    loops.train(step(), generated(6), epochs=1, callbacks=[Ends([])], checkpoint=tmp_path)
    with pytest.raises(ValueError, match="`data` ends before the 2 batches that the run of the checkpoint"):
        loops.train(step(), generated(1), epochs=1, checkpoint=tmp_path)


@pytest.mark.parametrize("numbers", [(3, 3, 3), (1, 2, 3), (0, 1), (4097, 4098), (8191, 8192)])
def test_workers_agree_on_what_they_see(numbers):
    """Each finds the same, also one whose number is the mean of all."""

    def answer(own):
        mean = sum(n % 4096 for n in numbers) / len(numbers)
        distances = [abs(n % 4096 - mean) for n in numbers]
        means = iter([mean, sum(distances) / len(distances)])
        return same_on_all(own, lambda number: next(means))

    assert {answer(own) for own in numbers} == {len(set(numbers)) == 1}


def test_fit_has_no_state_to_keep(tmp_path):
    plain = model()
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`Checkpoint` saves the state of a `loops.TrainStep`, and has none"):
        plain.fit(X, np.zeros((12, 2)), verbose=0, callbacks=[loops.Checkpoint(tmp_path)])
