"""Batches: each example once an epoch, in an order that seed and epoch alone decide."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradloop import loops

pytestmark = pytest.mark.numbers


def _numbers(data, **place):
    """The first column of x of each batch, as lists."""
    iterator = data.iterator(**place) if place else data
    return [np.asarray(batch[0]).reshape(len(batch[0]), -1)[:, 0].tolist() for batch in iterator]


def _model(inputs=3, outputs=2):
    keras.utils.set_random_seed(7)
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs, "tanh")])


def _weights(step):
    return [weight.numpy() for weight in step.model.weights]


def _assert_same_weights(one, other, atol=0.0):
    for a, b in zip(_weights(one), _weights(other)):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 8, 100])
@pytest.mark.parametrize("examples", [1, 2, 3, 7, 8, 16, 33])
def test_an_epoch_holds_each_example_once(examples, batch_size, shuffle):
    numbers = np.arange(examples)
    data = loops.Batches(numbers, numbers, batch_size, shuffle=shuffle, seed=examples)
    assert len(data) == -(-examples // batch_size)
    for _ in range(2):
        epoch = _numbers(data)
        assert len(epoch) == len(data)
        sizes = [len(batch) for batch in epoch]
        assert sizes[:-1] == [batch_size] * (len(data) - 1)
        flat = sum(epoch, [])
        assert (sorted(flat) if shuffle else flat) == numbers.tolist()


def test_targets_and_weights_follow_their_examples():
    numbers = np.arange(50)
    data = loops.Batches(numbers, 2 * numbers, 8, seed=3, sample_weight=numbers / 2)
    for x, y, weight in data:
        np.testing.assert_array_equal(y, 2 * x.numpy())
        np.testing.assert_array_equal(weight, x.numpy() / 2)


def test_order_depends_on_seed_and_epoch_alone():
    numbers = np.arange(64)
    first = loops.Batches(numbers, numbers, 8, seed=5)
    epochs = [_numbers(first) for _ in range(3)]
    # Another batch size, another history: the same order of examples.
    second = loops.Batches(numbers, numbers, 7, seed=5)
    second.epoch = 2
    assert sum(_numbers(second), []) == sum(epochs[2], [])
    assert _numbers(second, epoch=0) and second.epoch == 3  # iterator() does not move it
    assert _numbers(first, epoch=1) == epochs[1]
    assert epochs[0] != epochs[1] != epochs[2]
    assert _numbers(loops.Batches(numbers, numbers, 8, seed=6)) != epochs[0]


def test_the_order_is_the_same_in_every_version():
    # What was recorded goes on in a later version of this library, of NumPy and of TensorFlow: the numbers
    # are those of `numpy.random.RandomState([seed, epoch])`, which NumPy has frozen.
    data = loops.Batches(np.arange(8), None, 3, seed=5)
    orders = [sum((batch.numpy().tolist() for batch in data.iterator(epoch)), []) for epoch in (0, 2)]
    assert orders == [[3, 1, 5, 4, 6, 7, 2, 0], [1, 4, 2, 5, 3, 0, 6, 7]]
    iterator = data.iterator(2, 1)
    assert iterator.indices(1).tolist() == [5, 3, 0]
    assert iterator.indices(9).tolist() == [5, 3, 0, 6, 7] and iterator.position == 1
    assert data.order(2) is data.order(2)
    with pytest.raises(ValueError, match="read-only"):
        data.order(2).sort()


def test_shuffling_mixes_the_whole_of_the_data():
    numbers = np.arange(1000)
    data = loops.Batches(numbers, numbers, 1000)
    order = np.array(_numbers(data)[0])
    assert abs(np.corrcoef(order, numbers)[0, 1]) < 0.15
    assert (order[:100] >= 500).sum() in range(25, 76)


@pytest.mark.parametrize("position", range(5))
def test_iterator_goes_on_where_a_full_pass_would_be(position):
    numbers = np.arange(18)
    data = loops.Batches(numbers, numbers, 4, seed=1)
    full = _numbers(data, epoch=3)
    iterator = data.iterator(3, position)
    assert iterator.remaining == 5 - position
    assert [batch[0].numpy().tolist() for batch in iterator] == full[position:]
    assert iterator.position == 5 and iterator.remaining == 0


def test_iterator_at_the_end_is_empty():
    data = loops.Batches(np.arange(4), np.arange(4), 2)
    assert list(data.iterator(0, 2)) == []


@pytest.mark.parametrize("epoch, position", [(-1, 0), (0, -1), (0, 4)])
def test_positions_outside_of_the_data(epoch, position):
    data = loops.Batches(np.arange(6), np.arange(6), 2)
    match = f"`epoch` {epoch} and `position` {position} are outside of the data"
    with pytest.raises(ValueError, match=match):
        data.iterator(epoch, position)
    assert isinstance(data.iterator(0, 3), loops.BatchIterator)
    with pytest.raises(TypeError, match="`position` must be a whole number of at least 0, got 1.5"):
        data.iterator(0, 1.5)


@pytest.mark.parametrize("seed", [0, 2**31 - 1, np.int64(5)])
def test_extreme_seeds(seed):
    data = loops.Batches(np.arange(9), np.arange(9), np.int32(4), seed=seed)
    assert sorted(sum(_numbers(data), [])) == list(range(9))


def test_other_arrays_in_the_same_order():
    data = loops.Batches(np.arange(7), np.arange(7), 3, seed=5)
    list(data)
    other = data.with_arrays(np.arange(7) + 10, np.arange(7), np.ones(7))
    assert other.epoch == 1
    for (x, _), (moved, _, weight) in zip(data, other, strict=True):
        np.testing.assert_array_equal(moved, x + 10)
        np.testing.assert_array_equal(weight, np.ones(len(x)))
    np.testing.assert_array_equal(data.with_arrays(np.arange(3), None).arrays, np.arange(3))


@pytest.mark.parametrize("weighted", [False, True])
def test_device_loop_reads_what_python_reads(weighted):
    x, y = np.random.rand(22, 3).astype("float32"), np.random.rand(22, 2).astype("float32")
    weight = np.random.rand(22).astype("float32") if weighted else None
    make = lambda: loops.Batches(x, y, 5, seed=2, sample_weight=weight)  # noqa: E731
    device = loops.TrainStep(_model(), "mse", keras.optimizers.SGD(0.3))
    python = loops.TrainStep(_model(), "mse", keras.optimizers.SGD(0.3))
    device_data, python_data = make(), make()
    for _ in range(2):
        iterator = iter(device_data)
        values = [device.run(iterator, 2)["loss"], device.run(iterator, 100)["loss"]]
        losses = [float(python(*batch)["loss"]) for batch in python_data]
        assert [len(part) for part in values] == [2, 3]
        np.testing.assert_allclose(np.concatenate(values), losses, rtol=1e-6)
    _assert_same_weights(device, python, atol=1e-6)
    assert device.traces == 1


def test_equal_readers_share_a_trace():
    step = loops.TrainStep(_model(), "mse", "sgd")
    transform = lambda x, y: (x, y)  # noqa: E731
    for examples, seed in [(10, 0), (21, 1), (3, 2)]:
        x, y = np.ones((examples, 3), "float32"), np.ones((examples, 2), "float32")
        data = loops.Batches(x, y, 4, seed=seed, shuffle=seed != 1, transform=transform)
        step.run(iter(data), 50)
    assert step.traces == 1
    step.run(iter(loops.Batches(x, y, 2, seed=seed, transform=transform)), 50)
    assert step.traces == 2


def test_transform_runs_on_each_batch():
    data = loops.Batches(
        np.arange(5, dtype="uint8"),
        np.arange(5),
        2,
        shuffle=False,
        transform=lambda x, y: (tf.cast(x, tf.float32) / 2, -y),
        sample_weight=np.ones(5),
    )
    x, y, weight = zip(*[[part.numpy().tolist() for part in batch] for batch in data])
    assert list(x) == [[0.0, 0.5], [1.0, 1.5], [2.0]]
    assert list(y) == [[0, -1], [-2, -3], [-4]]
    assert [len(w) for w in weight] == [2, 2, 1]


def _noise(x, y, seed):
    return x + tf.random.stateless_normal(tf.shape(x), seed), y


@pytest.mark.parametrize("transform", [_noise, lambda x, y: (x * 2.0, y)])
def test_transform_gives_the_device_loop_the_same_numbers(transform):
    x, y = np.random.rand(10, 3).astype("float32"), np.random.rand(10, 2).astype("float32")
    device = loops.TrainStep(_model(), "mse", keras.optimizers.SGD(0.1))
    python = loops.TrainStep(_model(), "mse", keras.optimizers.SGD(0.1))
    data = loops.Batches(x, y, 4, seed=9, transform=transform)
    values = device.run(data.iterator(4), 3)["loss"]
    losses = [float(python(*batch)["loss"]) for batch in data.iterator(4)]
    np.testing.assert_allclose(values, losses, rtol=1e-5)
    # Resumed in the middle: the noise of that batch, not of the first.
    (again, _), _ = data.iterator(4, 1)
    np.testing.assert_array_equal(again, list(data.iterator(4))[1][0])


def test_transform_seeds_differ_between_batches_epochs_and_data_seeds():
    seen = []

    def transform(x, y, seed):
        assert seed.dtype == tf.int32 and seed.shape == (2,)
        seen.append(tuple(seed.numpy().tolist()))
        return x, y

    for seed in (0, 1, 2**31 - 1):
        data = loops.Batches(np.arange(6), np.arange(6), 2, seed=seed, transform=transform)
        for epoch in (0, 1, 2):
            list(data.iterator(epoch))
    assert len(seen) == len(set(seen)) == 27
    assert min(map(min, seen)) >= 0
