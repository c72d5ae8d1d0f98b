"""The data of a range test: where it is read, what happens when it ends, and where it is left."""

import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops
from gradloop.optim import lr_range_test

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype("float32")
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype("int64")


def ones(count=4, size=2):
    return loops.Batches(np.ones((count, 1)), None, size)


def seen(step, monkeypatch):
    """The places in `Batches`, (epoch, position), of the steps that run."""
    places, real = [], step.run

    def run(iterator, steps):
        places.append((iterator.epoch, iterator.position))
        return real(iterator, steps)

    monkeypatch.setattr(step, "run", run)
    return places


def test_batches_are_read_from_the_next_epoch_and_again_when_they_end(quadratic, monkeypatch):
    step, data = quadratic(), ones(6)
    places = seen(step, monkeypatch)
    list(data)
    lr_range_test(step, data, 1e-5, 1e-3, 5)
    assert places == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)] and data.epoch == 1


@pytest.mark.parametrize("read", [1, 3])
def test_an_iterator_of_batches_is_read_from_its_place_and_stays_there(quadratic, read, monkeypatch):
    step, data = quadratic(), ones(6)
    places = seen(step, monkeypatch)
    iterator = data.iterator(4, read)
    lr_range_test(step, iterator, 1e-5, 1e-3, 4)
    every = [(4 + number // 3, number % 3) for number in range(read, read + 4)]
    assert places == every
    assert (iterator.epoch, iterator.position, data.epoch) == (4, read, 0)


def numbers(shuffle=False):
    dataset = tf.data.Dataset.range(6).map(lambda n: (tf.cast(n, tf.float32)[None], tf.cast(n, tf.float32)))
    return (dataset.shuffle(6, seed=5) if shuffle else dataset).batch(1)


def read(iterator, count):
    return [float(next(iterator)[1][0]) for _ in range(count)]


def test_a_dataset_begins_anew_when_it_ends(quadratic, nothing_changes):
    step = loops.TrainStep(
        quadratic().model, lambda model, batch: tf.reduce_sum(batch[1] + 0 * model.weights[0]), "sgd"
    )
    with nothing_changes(step):
        curve = lr_range_test(step, numbers(), 1e-5, 1e-3, 10)
    assert curve.losses[:6].tolist() == [0, 1, 2, 3, 4, 5][: len(curve.losses)]


def test_an_iterator_of_a_dataset_goes_on_where_it_was(quadratic):
    dataset, twin = numbers(shuffle=True), iter(numbers(shuffle=True))
    iterator = iter(dataset)
    assert read(iterator, 2) == read(twin, 2)
    lr_range_test(quadratic(), iterator, 1e-5, 1e-3, 3)
    assert read(iterator, 4) == read(twin, 4)


def test_an_iterator_of_a_dataset_that_is_too_short(quadratic, nothing_changes):
    iterator, step = iter(numbers()), quadratic()
    with nothing_changes(step), pytest.raises(ValueError, match="`iterator` has no batch left"):
        lr_range_test(step, iterator, 1e-5, 1e-3, 7)
    assert read(iterator, 6) == [0, 1, 2, 3, 4, 5]


def test_a_reshuffling_dataset_counts_the_test_as_an_iteration(quadratic):
    def orders(dataset):
        return [read(iter(dataset), 6) for _ in range(3)]

    untouched, tested = orders(numbers(shuffle=True)), numbers(shuffle=True)
    lr_range_test(quadratic(), tested, 1e-5, 1e-3, 4)
    assert orders(tested)[:2] == untouched[1:]


def test_an_iterator_that_cannot_be_saved(quadratic):
    spec = (tf.TensorSpec((1,)), tf.TensorSpec(()))
    dataset = tf.data.Dataset.from_generator(lambda: iter([([1.0], 1.0)] * 5), output_signature=spec).batch(1)
    step = quadratic()
    with pytest.raises(ValueError, match="cannot save, so the test could not restore it .*stateful"):
        lr_range_test(step, iter(dataset), 1e-5, 1e-3, 3)
    assert len(lr_range_test(step, dataset, 1e-5, 1e-3, 8).losses) == 8


@pytest.mark.parametrize("bad", [(X, Y), X, iter([X]), None])
def test_data_of_another_type(quadratic, bad):
    with pytest.raises(TypeError, match="`data` must be a `loops.Batches`, a `tf.data.Dataset` or an iter"):
        lr_range_test(quadratic(), bad)


def test_empty_data(quadratic):
    with pytest.raises(ValueError, match="`data` is empty"):
        lr_range_test(quadratic(), numbers().take(0))
