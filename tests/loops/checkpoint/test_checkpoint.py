"""`Checkpoint` in loops of one's own, and what it refuses to go on with."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.support.keras_private import preserve_global_seed_generator, set_global_seed_generator
from tests.values import assert_same, numbers


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every_epochs": 0}, ValueError, "`every_epochs` must be at least 1, got 0"),
        ({"every_steps": 1.5}, TypeError, "`every_steps` must be a whole number of at least 1, got 1.5"),
        ({"keep": True}, TypeError, "`keep` must be a whole number of at least 1, got True"),
        ({"every_minutes": 0}, ValueError, "`every_minutes` must be a finite number above 0, got 0"),
        ({"on_damaged": "skip"}, ValueError, '`on_damaged` must be "previous" or "raise", not \'skip\''),
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


def test_a_relative_folder_stays_where_it_is(tiny, tmp_path, monkeypatch):
    """Also the logs of a `TensorBoard`, of which some begin at an epoch's end."""
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    checkpoint = loops.Checkpoint("runs/a/", every_steps=1, keep=[loops.Best("val_loss")])
    board = loops.TensorBoard("logs", graph=False)
    leave = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: os.chdir(tmp_path / "other"))
    step = tiny.step()
    loops.train(
        step, tiny.data(), epochs=1, validation=tiny.data(), callbacks=[leave, board], checkpoint=checkpoint
    )
    assert os.path.dirname(checkpoint.best) == checkpoint.folder == str(tmp_path / "runs" / "a")
    checkpoint.restore(step)
    assert {"steps", "train", "validation"} <= set(os.listdir(tmp_path / "logs"))
    assert not os.listdir(tmp_path / "other") and os.listdir(checkpoint.folder) == ["checkpoint-3"]


def test_the_newest_has_its_files(tiny, kept):
    """And is not known to be damaged: it is the one that a run would resume from."""
    checkpoint = loops.Checkpoint(kept)
    assert checkpoint.newest == str(kept / "checkpoint-2")
    (values,) = (kept / "checkpoint-2").glob("state.data-*")
    content = values.read_bytes()
    values.write_bytes(content[:-1])
    assert checkpoint.newest == str(kept / "checkpoint-1")
    values.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(UserWarning, match="checkpoint-2: .*newest that is whole is .*checkpoint-1"):
        checkpoint.restore(tiny.step())
    assert checkpoint.newest == str(kept / "checkpoint-1")
    os.remove(kept / "checkpoint-1" / "state.index")
    assert checkpoint.newest is None


@pytest.mark.parametrize("kind", ["data", "dataset"])
def test_a_loop_of_ones_own_goes_on_in_the_middle_of_an_epoch(tiny, kind, tmp_path):
    source = getattr(tiny, kind)
    straight = tiny.step()
    iterator = iter(source())
    losses = [straight.run(iterator, 1)["loss"][0] for _ in range(3)]
    folder = tmp_path / "lr=[0.1,0.01]\\n"  # TensorFlow looks for files by patterns
    first, checkpoint = tiny.step(), loops.Checkpoint(folder)
    iterator = checkpoint.restore(first, source())
    assert first.run(iterator, 1)["loss"][0] == losses[0]
    checkpoint.save(first, iterator)
    again = tiny.step()
    iterator = loops.Checkpoint(folder).restore(again, source())
    assert [again.run(iterator, 1)["loss"][0] for _ in range(2)] == losses[1:]
    assert_same(numbers(again.state()), numbers(straight.state()))


def test_a_normalization_goes_by_what_was_restored(tmp_path):
    def made(adapted):
        layer = keras.layers.Normalization(name="normalization")
        model = keras.Sequential([keras.Input((1,)), layer, keras.layers.Dense(1)])
        if adapted:
            layer.adapt(np.array([[1.0], [3.0]]))
        return layer, loops.TrainStep(model, "mse", "sgd")

    checkpoint = loops.Checkpoint(tmp_path)
    checkpoint.save(made(adapted=True)[1])
    layer, step = made(adapted=False)
    checkpoint.restore(step)
    np.testing.assert_allclose(layer(np.array([[4.0]])), [[2.0]])  # (4 - 2) / 1


def test_what_keras_draws_without_a_seed_goes_on(tiny, tmp_path):
    step, checkpoint = tiny.step(), loops.Checkpoint(tmp_path)

    def drawn():
        return [float(keras.random.uniform(())) for _ in range(2)]

    with preserve_global_seed_generator():
        drawn()
        checkpoint.save(step)
        wanted = drawn()
        checkpoint.restore(step)
        assert drawn() == wanted
        set_global_seed_generator(None)  # as in another process
        checkpoint.restore(step)
        assert drawn() == wanted


def test_epochs_follow_one_another_after_a_restore(tiny, tmp_path):
    def losses(cut):
        found, trained, checkpoint = [], tiny.step(), loops.Checkpoint(tmp_path)
        source = tiny.data()
        iterator = checkpoint.restore(trained, source)
        while len(found) < cut:
            found += trained.run(iterator, 1)["loss"].tolist()
            checkpoint.save(trained, iterator)
            if not iterator.remaining:
                iterator = iter(source)
        return found

    plain, source = tiny.step(), tiny.data()
    straight = [loss for _ in range(3) for loss in plain.run(iter(source), 3)["loss"].tolist()]
    assert losses(4) + losses(5) == straight


def test_a_place_that_cannot_be_kept_is_refused(tiny, tmp_path):
    generated = tf.data.Dataset.from_generator(lambda: iter(range(3)), output_signature=tf.TensorSpec([]))
    checkpoint = loops.Checkpoint(tmp_path)
    place = "`iterator` is of a dataset in which TensorFlow knows no place: PyFunc is stateful. Save without"
    with pytest.raises(ValueError, match=place):
        checkpoint.save(tiny.step(), iter(generated))
    assert checkpoint.newest is None and not list(tmp_path.glob("checkpoint-*"))


def test_what_is_no_step_iterator_or_data_is_refused(tiny, tmp_path):
    checkpoint = loops.Checkpoint(tmp_path)
    for call in (checkpoint.save, checkpoint.restore):
        with pytest.raises(TypeError, match="`step` must be a `loops.TrainStep`"):
            call(tiny.model())
    with pytest.raises(ValueError, match="pass `iter"):
        checkpoint.save(tiny.step(), tiny.data())
    with pytest.raises(TypeError, match="`data` must be a `loops.Batches` or a `tf.data.Dataset`"):
        checkpoint.restore(tiny.step(), iter(tiny.data()))


def test_data_of_another_kind_or_order_is_refused(tiny, tmp_path):
    trained, checkpoint = tiny.step(), loops.Checkpoint(tmp_path)
    checkpoint.save(trained, iter(tiny.data()))
    before = numbers(trained.state())
    for other, message in (
        (tiny.dataset(), "`data` is a `tf.data.Dataset`, and the checkpoint .* made with a `loops.Batches`"),
        (
            tiny.data(batch_size=3),
            "`data` has batch_size=3, and the checkpoint .* was made with batch_size=4",
        ),
        (tiny.data(seed=5), "`data` has seed=5"),
        (tiny.data(shuffle=False), "`data` has shuffle=False"),
        (loops.Batches(tiny.x[:11], np.zeros((11, 2)), 4), "`data` has examples=11"),
    ):
        with pytest.raises(ValueError, match=message):
            checkpoint.restore(trained, other)
    assert_same(numbers(trained.state()), before)
    checkpoint.save(trained, iter(tiny.dataset()))
    with pytest.raises(ValueError, match=r"`data` has arrays=.* was made with arrays=.*float32 \(2,\)"):
        checkpoint.restore(trained, tf.data.Dataset.from_tensor_slices((tiny.x, tiny.x)).batch(2))
    checkpoint.save(trained)
    with pytest.raises(ValueError, match="`data` has no position in the checkpoint .* restore it without"):
        checkpoint.restore(trained, tiny.data())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tiny: tiny.step(3), r"head/kernel is float32 \(4, 2\) there and float32 \(4, 3\) here"),
        (
            lambda tiny: tiny.step(optimizer="sgd"),
            "`optimizer` is SGD, and the checkpoint .* was made with Adam: make it as it was",
        ),
        (
            lambda tiny: tiny.step(metrics=[keras.metrics.AUC(name="auc")]),
            "it has no metrics/auc/true_positives",
        ),
        (lambda tiny: tiny.step(accumulate=2), "`accumulate` is 2, and the checkpoint .* was made with 1"),
        (
            lambda tiny: tiny.grouped_step(),
            "`optimizer` has the groups body, head, and the checkpoint .* was made with none",
        ),
    ],
)
def test_another_step_is_refused_and_stays_as_it_was(tiny, kept, make, message):
    other = make(tiny)
    before = numbers(other.state())
    with pytest.raises(ValueError, match=message):
        loops.Checkpoint(kept).restore(other)
    assert_same(numbers(other.state()), before)


def test_fit_has_no_state_to_keep(tiny, tmp_path):
    plain = tiny.model()
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`Checkpoint` saves the state of a `loops.TrainStep`, and has none"):
        plain.fit(tiny.x, tiny.y, verbose=0, callbacks=[loops.Checkpoint(tmp_path)])
