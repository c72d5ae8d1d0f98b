"""The position in the data, saved and restored."""

import json
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.data.position import check_same_data, position_of, read_iterator, write_iterator


def data(examples=10, size=4, dtype="float32", value=0, **options):
    return loops.Batches(np.full((examples, 2), value, dtype), np.zeros(examples), size, **options)


def dataset():
    return tf.data.Dataset.range(8).shuffle(8, seed=1).batch(2)


@pytest.mark.parametrize("kind", [int, np.int64])
def test_a_place_in_batches_is_two_numbers_and_the_order(kind):
    iterator = data(seed=kind(3)).iterator(kind(2), kind(1))
    place = json.loads(json.dumps(position_of(iterator)))
    assert (place["epoch"], place["position"]) == (2, 1)
    assert place["order"] == {"examples": 10, "batch_size": 4, "shuffle": True, "seed": 3}
    check_same_data(place, data(seed=3), "folder")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (data(examples=9), "examples=9, and the checkpoint 'folder' was made with examples=10"),
        (data(size=5), "batch_size=5"),
        (data(shuffle=False), "shuffle=False"),
        (data(seed=1), "seed=1"),
        (data(dtype="int32"), r"arrays=\['int32 \(2,\)', .* made with arrays=\['float32 \(2,\)'"),
        (tf.data.Dataset.range(3), "`data` is a `tf.data.Dataset`, .* made with a `loops.Batches`"),
    ],
)
def test_other_data_are_refused_with_a_way_out(other, said):
    with pytest.raises(ValueError, match=f"{said}.*restore"):
        check_same_data(position_of(iter(data())), other, "folder")


def of(count=8, size=2, seed=1, value=0.0):
    return tf.data.Dataset.from_tensor_slices(tf.fill([count], value)).shuffle(8, seed=seed).batch(size)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (of(count=9), "batches=5, .* with batches=4"),
        (of(count=16, size=4), r"batch_size=\[4\], .* with batch_size=\[2\]"),
        (of(seed=2), r"seeds=\[2\], .* with seeds=\[1\]"),
        (of(value=0), r"arrays=\['int32 \(\)'\], .* with arrays=\['float32 \(\)'\]"),
    ],
)
def test_other_datasets_are_refused(no_global_seed, other, said):
    with pytest.raises(ValueError, match=f"`data` has {said}.*restore"):
        check_same_data(position_of(iter(of())), other, "folder")


@pytest.fixture
def no_global_seed():
    """With one, TensorFlow gives a seed to each shuffle, by what has run before."""
    tf.random.set_seed(None)


def half(x, y):
    return x * 0.5, y


def other_half(x, y):
    return x * 0.25, y


def scaled(by):
    return lambda x, y: (x * by, y)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (data(), data(value=1), "other values than"),
        (of(), of(value=1.0), "other values than"),
        (data(), data(transform=half), "another `transform` than"),
        (data(transform=half), data(transform=other_half), "another `transform`"),
        (data(transform=scaled(2.0)), data(transform=scaled(3.0)), "another `transform`"),
        (data(transform=partial(half, y=1)), data(value=1, transform=half), "other values and another `tr"),
    ],
)
def test_other_values_and_transforms_are_told(before, now, said):
    place = json.loads(json.dumps(position_of(iter(before))))
    with pytest.warns(UserWarning, match=f"`data` has {said}.*those of now"):
        check_same_data(place, now, "folder")


def test_another_seed_of_the_process_is_told(no_global_seed):
    tf.random.set_seed(1)
    place = position_of(iter(dataset()))
    check_same_data(place, dataset(), "folder", later_passes=True)
    tf.random.set_seed(2)
    check_same_data(place, dataset(), "folder")
    with pytest.warns(
        UserWarning, match="`data` has another seed of `keras.utils.set_random_seed` or .* than"
    ):
        check_same_data(place, dataset(), "folder", later_passes=True)
    tf.random.set_seed(None)


def test_the_same_data_and_those_of_an_older_version_are_told_nothing():
    strings = [loops.Batches(np.array(["a", "b"]), None, 1, transform=scaled(2.0)) for _ in range(2)]
    for one, other in (strings, (of(), of()), (data(transform=half), data(transform=half))):
        place = position_of(iter(one))
        check_same_data(place, other, "folder")
        del place["likeness"]
        check_same_data(place, other, "folder")
    check_same_data({"kind": "dataset"}, of(), "folder")


def test_an_iterator_goes_on_where_it_was_written(tmp_path):
    path, iterator, again = str(tmp_path / "iterator"), iter(dataset()), iter(dataset())
    next(iterator)
    assert write_iterator(path, iterator, {}) == ""
    read_iterator(path, again)
    rest = [batch.numpy().tolist() for batch in iterator]
    assert len(rest) == 3 and [batch.numpy().tolist() for batch in again] == rest


def test_an_iterator_of_another_dataset_is_refused(tmp_path):
    path = str(tmp_path / "iterator")
    write_iterator(path, iter(dataset()), {})
    with pytest.raises(ValueError, match="`data` cannot resume .* Make the dataset as it was"):
        read_iterator(path, iter(tf.data.Dataset.range(8).batch(2)))


def test_why_tensorflow_cannot_save_an_iterator(tmp_path):
    generated = tf.data.Dataset.from_generator(lambda: iter(range(3)), output_signature=tf.TensorSpec([]))
    assert write_iterator(str(tmp_path / "iterator"), iter(generated), {}) == "PyFunc is stateful."


def test_an_iterator_that_would_never_end_is_not_saved(tmp_path):
    drawn = tf.data.Dataset.sample_from_datasets([dataset(), dataset()], [0.5, 0.5], seed=1)
    assert "stop_on_empty_dataset=True" in write_iterator(str(tmp_path / "iterator"), iter(drawn), {})
    assert not list(tmp_path.iterdir())


def test_seeds_are_those_of_the_iterator_that_was_written(tmp_path, monkeypatch):
    """It goes on reading ahead, and so may begin a shuffle while it is written."""
    data, began = dataset(), []
    write = tf.train.Checkpoint.write

    def begins_two(checkpoint, path):
        if len(began) < 2:
            began.append(iter(data))
        return write(checkpoint, path)

    monkeypatch.setattr(tf.train.Checkpoint, "write", begins_two)
    position = {}
    write_iterator(str(tmp_path / "iterator"), iter(data), position)
    assert position == {"seeds": [6]}


def test_an_iterator_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="The position in the data cannot be written"):
        write_iterator(str(tmp_path / "file" / "iterator"), iter(dataset()), {})
