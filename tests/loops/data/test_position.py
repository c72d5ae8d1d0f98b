"""The position in the data, saved and restored."""

import json

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.loops.data.position import check_same_data, position_of, read_iterator, write_iterator


def data(examples=10, size=4, **options):
    return loops.Batches(np.zeros((examples, 2)), np.zeros(examples), size, **options)


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
        (tf.data.Dataset.range(3), "`data` is a `tf.data.Dataset`, .* made with a `loops.Batches`"),
    ],
)
def test_other_data_are_refused_with_a_way_out(other, said):
    with pytest.raises(ValueError, match=f"{said}.*restore"):
        check_same_data(position_of(iter(data())), other, "folder")


def test_an_iterator_goes_on_where_it_was_written(tmp_path):
    path, iterator, again = str(tmp_path / "iterator"), iter(dataset()), iter(dataset())
    next(iterator)
    assert write_iterator(path, iterator) == ""
    read_iterator(path, again)
    rest = [batch.numpy().tolist() for batch in iterator]
    assert len(rest) == 3 and [batch.numpy().tolist() for batch in again] == rest


def test_an_iterator_of_another_dataset_is_refused(tmp_path):
    path = str(tmp_path / "iterator")
    write_iterator(path, iter(dataset()))
    with pytest.raises(ValueError, match="`data` cannot resume .* Make the dataset as it was"):
        read_iterator(path, iter(tf.data.Dataset.range(8).batch(2)))


def test_why_tensorflow_cannot_save_an_iterator(tmp_path):
    generated = tf.data.Dataset.from_generator(lambda: iter(range(3)), output_signature=tf.TensorSpec([]))
    assert write_iterator(str(tmp_path / "iterator"), iter(generated)) == "PyFunc is stateful."


def test_an_iterator_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="The position in the data cannot be written"):
        write_iterator(str(tmp_path / "file" / "iterator"), iter(dataset()))
